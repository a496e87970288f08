"""Compiles a network in place. Names of modules and tensors stay, so checkpoints fit compiled and plain networks."""

from functools import partial
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from lightning_seg.errors import ConfigError, describe
from lightning_seg.models.adapters import owner_of_losses

_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


def compile_or_tell(network: Any, device: torch.device) -> None:
    """Compile a network for a device, or warn why that is not possible.

    Args:
        network: a ``SemanticSegmentor`` of Detectron2.
        device: it runs there.
    """
    if problem := compiler_problem(device):
        rank_zero_warn(f"model.compile has no effect here, and results are the same up to rounding: {problem}")
    else:
        rank_zero_info("Compiling the network at its first batches: a minute or more")
        compile_network(network)


def compile_network(network: Any) -> None:
    """Let the backbone and, if the head has ``layers``, these compile at their first call.

    Of EoMT's head, the layers with queries compile. The code around them is not compiled, since it depends on the data
    (lists of images, losses over the pixels that count) or draws points. Each part is compiled once for training and
    once for evaluation. A second size compiles it once more, then for all sizes. Copies and pickles of the backbone are
    not compiled.

    Args:
        network: a ``SemanticSegmentor`` of Detectron2.
    """
    network.backbone.compile()
    head: nn.Module = owner_of_losses(network.sem_seg_head)
    layers = getattr(type(head), "layers", None)
    if layers is not None:
        # Not a bound method: a copy of the head would share it.
        vars(head)["layers"] = partial(torch.compile(layers), head)
    for block in getattr(network.backbone, "last_blocks", ()):  # which EoMT's head runs
        block.compile()


def compiler_problem(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device, in one line; None if a sum can be compiled.

    Raises:
        Exception: if ``torch.compile`` itself raises: then this call is wrong, not the machine.
    """
    compiled = torch.compile(_sum)
    try:
        compiled(torch.ones(64, device=device))
    except Exception as error:  # of many kinds: no compiler, a broken one, no headers of Python …
        return describe(getattr(error, "inner_exception", error)).splitlines()[0]
    return None


def refuse_double_counting(activation_checkpointing: bool) -> None:
    """Raise a ConfigError if torch would count each batch twice in BatchNorm's statistics.

    Up to torch 2.8, a compiled block that the backward pass computes again also writes its buffers again.
    """
    if activation_checkpointing and _TORCH < (2, 9):
        raise ConfigError(
            "model.compile with model.activation_checkpointing counts each batch twice in the statistics of norms with "
            f"torch {torch.__version__}: install torch 2.9 or newer, or leave one of the two out"
        )


def _sum(tensor: Tensor) -> Tensor:
    return (tensor + 1).sum()
