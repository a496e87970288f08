"""Compiling a network in place: names of modules and tensors stay, so checkpoints fit with and without."""

from functools import partial
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from lightning_seg.errors import ConfigError, describe
from lightning_seg.models.adapters import owner_of_losses

_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


def compile_or_tell(network: Any, device: torch.device) -> None:
    """Compile a network for a device, or say why it stays as it is.

    Args:
        network: a ``SemanticSegmentor`` of Detectron2.
        device: that it runs on.
    """
    if problem := compiler_problem(device):
        rank_zero_warn(f"model.compile: goes on without, to the same results up to rounding, because of {problem}")
    else:
        rank_zero_info("Compiling the network at its first batches: a minute or more")
        compile_network(network)


def compile_network(network: Any) -> None:
    """Compile the backbone and, where the head has ``layers``, those, at their first call.

    What is around them depends on the data (lists of images, losses over the pixels that count) or draws points. Each
    is compiled once for training and once for evaluation, and for another size once more, then for all sizes. Copies
    and pickles of the backbone run plain.

    Args:
        network: a ``SemanticSegmentor`` of Detectron2.
    """
    network.backbone.compile()
    head: nn.Module = owner_of_losses(network.sem_seg_head)
    layers = getattr(type(head), "layers", None)
    if layers is not None:
        # No bound method, which a copy of the head would share with it.
        vars(head)["layers"] = partial(torch.compile(layers), head)


def compiler_problem(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device, in one line; tried on a sum.

    Raises:
        Exception: what ``torch.compile`` itself raises, since the fault then lies in this call and not in the machine.
    """
    compiled = torch.compile(_sum)
    try:
        compiled(torch.ones(64, device=device))
    except Exception as error:  # there are many: no compiler, a broken one, no headers of Python …
        return describe(getattr(error, "inner_exception", error)).splitlines()[0]
    return None


def refuse_double_counting(activation_checkpointing: bool) -> None:
    """Raise a ConfigError where torch would count a batch twice in BatchNorm's statistics.

    Up to 2.8, a compiled block that is computed again in the backward pass writes its buffers again, too.
    """
    if activation_checkpointing and _TORCH < (2, 9):
        raise ConfigError(
            "model.compile with model.activation_checkpointing counts each batch twice in the statistics of norms with "
            f"torch {torch.__version__}: install torch 2.9 or newer, or leave one of the two out"
        )


def _sum(tensor: Tensor) -> Tensor:
    return (tensor + 1).sum()
