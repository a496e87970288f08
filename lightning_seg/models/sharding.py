"""Spreads a segmentor over processes (FSDP2), for networks whose states do not fit on one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.blocks import blocks_of
from lightning_seg.models.segmentor import Segmentor


def shard(segmentor: Segmentor, mesh: DeviceMesh) -> None:
    """Spread parameters, gradients and optimiser states over processes, in place; names stay.

    Each block of the backbone is gathered when it is needed, and everything else at once.

    Args:
        segmentor: with its weights; afterwards, all processes must compute losses and logits together.
        mesh: of one dimension.

    Raises:
        ConfigError: if the backbone has no blocks, or the statistics of a norm would differ between processes.
    """
    alone = next((name for name, module in segmentor.named_modules() if _counts_alone(module)), None)
    if alone is not None and mesh.size() > 1:
        raise ConfigError(
            f"trainer.strategy sharded: {alone} is a BatchNorm, whose statistics would differ from process to process: "
            "use SyncBN on GPUs, GN or LN (MODEL.SEM_SEG_HEAD.NORM, MODEL.FPN.NORM, MODEL.RESNETS.NORM)"
        )
    for block in blocks_of(segmentor.network.backbone).values():
        fully_shard(block, mesh=mesh)
    fully_shard(segmentor, mesh=mesh)
    for method in ("losses", "evaluate"):
        register_fsdp_forward_method(segmentor, method)


@contextmanager
def _outside_inference() -> Iterator[None]:
    """Leave the inference mode: the training goes on with the gathered tensors, so they must be normal ones."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def gather(network: nn.Module) -> None:
    """Give each process all parameters until :func:`scatter`, so that it can evaluate alone."""
    with _outside_inference():
        for module in _sharded(network):
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()


def scatter(network: nn.Module) -> None:
    """Undo :func:`gather`."""
    root, *blocks = _sharded(network)
    for module in (root, *blocks):
        module.reshard()
    for block in blocks:
        block.set_reshard_after_forward(True, recurse=False)


def _sharded(network: nn.Module) -> list[Any]:
    """The modules that are spread, outermost first."""
    return [module for module in network.modules() if isinstance(module, FSDPModule)]


def _counts_alone(module: nn.Module) -> bool:
    from detectron2.layers import NaiveSyncBatchNorm

    synced = isinstance(module, nn.SyncBatchNorm | NaiveSyncBatchNorm)
    return isinstance(module, _BatchNorm) and module.track_running_stats and not synced
