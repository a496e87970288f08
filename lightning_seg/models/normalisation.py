"""Checks the norms that a config names, and converts BatchNorm to SyncBN and back."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from lightning_seg.errors import ConfigError
from lightning_seg.structures import Batch, summarise

NORMS = ("BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N", "")
"""The names that ``detectron2.layers.get_norm`` knows; the empty one means no norm."""


def require_norm(key: str, norm: str) -> None:
    """Raise a ConfigError that lists all norms unless Detectron2 knows ``norm``, the value of ``key``."""
    if norm not in NORMS:
        raise ConfigError(f"{key} is {norm!r}, but one of {', '.join(map(repr, NORMS))} is needed")


class SyncBatchNorm(TorchSyncBatchNorm):
    """``Trainer(sync_batchnorm=True)`` for any network, given as ``Trainer(plugins=[SyncBatchNorm()])``.

    Lightning's own silently drops the activation inside timm's ``BatchNormAct2d``, and fails on the CPU. There, this
    one changes nothing and says so.
    """

    def apply(self, model: Any) -> Any:  # the LightningModule
        if model.trainer.strategy.root_device.type == "cpu":
            rank_zero_info("trainer.sync_batchnorm needs a GPU: on the CPU, each process normalises its own batch")
            return model
        return with_sync(model)

    def revert(self, model: nn.Module) -> nn.Module:
        without_sync(model)
        return model


def with_sync(network: nn.Module) -> nn.Module:
    """Replace every BatchNorm by a ``SyncBatchNorm`` with the same tensors and names, and the same activation."""
    try:
        from timm.layers import convert_sync_batchnorm
    except ImportError:  # without timm there are no layers of timm
        convert_sync_batchnorm = nn.SyncBatchNorm.convert_sync_batchnorm
    converted: nn.Module = convert_sync_batchnorm(network)
    return converted


@contextmanager
def telling_of_single_values(network: nn.Module, batch: Batch) -> Iterator[None]:
    """Turn torch's error about a BatchNorm that gets one value for each channel into one that says what to do.

    Raises:
        ConfigError: names the layer and the images.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        at_fault = next((owner for owner in reversed(owners) if isinstance(owner, nn.Module)), None)
        layer = next((name for name, module in network.named_modules() if module is at_fault), "a layer")
        images = summarise([f"{s.get('file_name', '?')} ({s['image'].shape[2]}×{s['image'].shape[1]})" for s in batch])
        raise ConfigError(
            f"BatchNorm {layer} has only one value for each channel of a batch of {len(batch)} ({images}), and so no "
            "variance: raise data.batch_size, train on larger images or crops, or choose a norm that needs no batch "
            "(GN, FrozenBN)"
        ) from error


def refuse_dropped_activations(network: nn.Module) -> None:
    """Raise a ConfigError if Lightning's own conversion has dropped the activations of timm's norms."""
    if any(type(module) is nn.SyncBatchNorm and list(module.children()) for module in network.modules()):
        raise ConfigError(
            "Trainer(sync_batchnorm=True) drops the activations that are part of timm's norms: give the trainer "
            "plugins=[lightning_seg.models.normalisation.SyncBatchNorm()] as well"
        )


def drop_sync_on_cpu(network: nn.Module, device: torch.device) -> None:
    """Replace each ``SyncBatchNorm`` by a ``BatchNorm2d`` if the device is a CPU, and say so."""
    if device.type == "cpu" and without_sync(network):
        rank_zero_info("SyncBN needs a GPU: on the CPU, each process normalises its own batch")


def without_sync(network: nn.Module) -> int:
    """Replace every ``SyncBatchNorm`` by a ``BatchNorm2d`` with the same tensors, names and activation.

    On the CPU, SyncBatchNorm raises as soon as a process group exists, even one of a single process.

    Returns:
        How many were replaced.
    """
    replaced = 0
    for name, child in network.named_children():
        if isinstance(child, nn.SyncBatchNorm):
            setattr(network, name, _plain(child))
            replaced += 1
        else:
            replaced += without_sync(child)
    return replaced


def _plain(sync: Any) -> nn.BatchNorm2d:
    settings = (sync.num_features, sync.eps, sync.momentum, sync.affine, sync.track_running_stats)
    if hasattr(sync, "act"):  # timm made it from its BatchNormAct2d
        from timm.layers import BatchNormAct2d

        plain: nn.BatchNorm2d = BatchNormAct2d(*settings)
        plain.act, plain.drop = sync.act, sync.drop
    else:
        plain = nn.BatchNorm2d(*settings)
    for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(plain, tensor, getattr(sync, tensor))
    plain.train(sync.training)
    return plain
