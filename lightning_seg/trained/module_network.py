"""What computes a prediction, on any image: a trained module with the way that its images are read and shown to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_seg.data.evaluation import (
    EvaluationImages,
    evaluation_of_settings,
    plain_evaluation,
    restore_evaluation,
)
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.models.normalisation import without_sync
from lightning_seg.models.weights import read_checkpoint
from lightning_seg.module import SegmentationModule
from lightning_seg.restoring import restore_module
from lightning_seg.structures import Batch


class Network(Protocol):
    """What a predictor needs of a model, whatever file it is in.

    Attributes:
        images: how images are read and shown to it, and what its classes are called.
        batch_size: images of one size that it takes at once, where the user says nothing.
        device: that it computes on.
    """

    images: EvaluationImages
    batch_size: int
    device: torch.device

    def label_maps(self, batch: Batch) -> list[Tensor]:
        """(height, width) class ids of each image at its stored size, on the CPU."""

    def probabilities(self, batch: Batch) -> list[Tensor]:
        """(K, height, width) float32 of each image that sum to 1 at each pixel, on the CPU."""


class ModuleNetwork:
    """A :class:`SegmentationModule`; implements :class:`Network`.

    Args:
        module: with its trained weights.
        images: how images are read and shown to it.
        device: to compute on.
    """

    def __init__(self, module: SegmentationModule, images: EvaluationImages, device: torch.device) -> None:
        if device.type == "cpu":
            without_sync(module.segmentor)  # which needs a GPU
        self.module = module.eval().requires_grad_(False).to(device)
        self.images = images
        self.device = device
        self.batch_size = 1 if device.type == "cpu" else 8

    @torch.inference_mode()
    def label_maps(self, batch: Batch) -> list[Tensor]:
        return [labels.cpu() for labels in self.module.predict_step(batch, 0)]

    @torch.inference_mode()
    def probabilities(self, batch: Batch) -> list[Tensor]:
        return [found.cpu() for found in self.module.probabilities(batch)]


def find_device(name: str) -> torch.device:
    """The device of that name; ``auto``: a GPU of NVIDIA's or AMD's where there is one, else the CPU.

    Raises:
        ConfigError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}, but auto, cpu, cuda, cuda:1 or mps is needed") from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cpu": True, "cuda": (device.index or 0) < count, "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise ConfigError(f"device is {name!r}, but this machine has cpu and {count} GPUs for torch: take auto or cpu")
    return device


def load_checkpoint(path: Path, device: torch.device) -> ModuleNetwork:
    """The model of a checkpoint, which needs no other file but those of ``model.imports`` and ``data.imports``.

    Raises:
        CheckpointError: if it cannot be read, or needs what is not there.
    """
    what = f"checkpoint {path}"
    if not path.is_file():
        raise CheckpointError(f"{what} does not exist")
    checkpoint = read_checkpoint(path, what)
    try:
        module = restore_module(checkpoint, what)
        images = _restore_images(checkpoint, module, what)
    except (ConfigError, CheckpointError) as error:
        if str(error).startswith(what):
            raise
        raise CheckpointError(f"{what} cannot be used here: {error}") from error
    return ModuleNetwork(module, images, device)


def _restore_images(checkpoint: Mapping[str, Any], module: SegmentationModule, what: str) -> EvaluationImages:
    ignore_index = int(module.hparams["ignore_index"])
    if (record := checkpoint.get("evaluation")) is not None:
        return restore_evaluation(record, module.class_names, ignore_index)
    if (settings := checkpoint.get("settings")) is not None:  # of before there was such a record
        return evaluation_of_settings(settings, module.class_names, ignore_index)
    rank_zero_warn(f"{what} says nothing of data.eval_transforms, data.value_range and data.palette: it goes without")
    return plain_evaluation(module.class_names, ignore_index)
