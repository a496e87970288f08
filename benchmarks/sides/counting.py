"""What both sides are measured with: parameters, FLOPs and speed."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sections.memory import forget_peak
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

CLASSES, IGNORE = 19, 255
LEARNING_RATE, MOMENTUM, DECAY = 0.001, 0.9, 0.0001
"""Of SGD on both sides."""


def facts(
    model: nn.Module, forward: Callable[[], Tensor], beside: Sequence[str], labels: Tensor, loss: Tensor, truth: Tensor
) -> dict[str, Any]:
    """What :func:`peers.disagreements` compares.

    Args:
        model: the network, in evaluation mode.
        forward: gives the logits of a batch at full size, (N, K, H, W).
        beside: names of parts whose parameters and FLOPs do not count.
        labels: what inference gives of one image.
        loss: that training would have of this batch.
        truth: (N, H, W) class ids.
    """
    apart = sum(part.numel() for name in beside for part in model.get_submodule(name).parameters())
    logits, flops, flops_apart = count_flops(model, forward, beside)
    return {
        "parameters": sum(part.numel() for part in model.parameters()),
        "flops": flops,
        "compared parameters": sum(part.numel() for part in model.parameters()) - apart,
        "compared flops": flops - flops_apart,
        "logits": list(logits.shape),
        "labels": list(labels.shape),
        "loss": float(loss),
        "cross-entropy": float(F.cross_entropy(logits, truth, ignore_index=IGNORE)),
    }


@torch.no_grad()
def count_flops(model: nn.Module, forward: Callable[[], Tensor], beside: Sequence[str]) -> tuple[Tensor, int, int]:
    """The logits, the floating-point operations of all, and those of the parts beside."""
    counter = FlopCounterMode(display=False)
    apart = [0]

    def before(*_: Any) -> None:
        apart[0] -= counter.get_total_flops()

    def after(*_: Any) -> None:
        apart[0] += counter.get_total_flops()

    parts = [part for name in beside for part in leaves(model.get_submodule(name))]
    hooks = [part.register_forward_pre_hook(before) for part in parts]
    hooks += [part.register_forward_hook(after) for part in parts]
    with counter:
        logits = forward()
    for hook in hooks:
        hook.remove()
    return logits, counter.get_total_flops(), apart[0]


def leaves(part: nn.Module) -> list[nn.Module]:
    """Modules of a part that hold no other: those of a list are called one by one."""
    return [module for module in part.modules() if not list(module.children())]


def images_per_second(predict: Callable[[], object], images: int, warm_up: int, times: int) -> float:
    """Of a call that predicts some images; from its warm-up on, the peak of the memory begins anew."""
    for _ in range(warm_up):
        predict()
    gc.collect()
    forget_peak()
    start = time.perf_counter()
    for _ in range(times):
        predict()
    return images * times / (time.perf_counter() - start)
