"""What computes a prediction, on any image: a trained module with the way that its images are read and shown to it."""

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from lightning_seg.structures import Batch

_CRITERION = "segmentor.criterion."
"""How the names of a loss's own tensors begin."""


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


def restore_module(checkpoint: Mapping[str, Any], what: str) -> SegmentationModule:
    """The module that a checkpoint was written of, without its loss.

    Args:
        checkpoint: as it was read.
        what: to begin an error with.

    Raises:
        CheckpointError: if it is none of this program, or of a newer version.
        ConfigError: if the model cannot be built here.
    """
    settings = checkpoint.get("hyper_parameters")
    if "state_dict" not in checkpoint or not isinstance(settings, Mapping) or "class_names" not in settings:
        raise CheckpointError(
            f"{what} holds no settings of a model, so it is plain weights or of another program: give a checkpoint "
            "that `train.py fit` or a Trainer wrote of a SegmentationModule"
        )
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    known = inspect.signature(SegmentationModule.__init__).parameters
    if unknown := sorted(given.keys() - known.keys()):
        raise CheckpointError(
            f"{what} has model.{', model.'.join(unknown)}, which this version does not know: use the one that wrote it"
        )
    with _quietly():
        module = SegmentationModule(**{**given, "weights": "", "criterion": None, "compile": False})
    weights = {name: value for name, value in checkpoint["state_dict"].items() if not name.startswith(_CRITERION)}
    module.on_load_checkpoint({**checkpoint, "state_dict": weights})
    module.load_state_dict(weights)
    return module


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what a training says of its model."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _restore_images(checkpoint: Mapping[str, Any], module: SegmentationModule, what: str) -> EvaluationImages:
    ignore_index = int(module.hparams["ignore_index"])
    if (record := checkpoint.get("evaluation")) is not None:
        return restore_evaluation(record, module.class_names, ignore_index)
    if (settings := checkpoint.get("settings")) is not None:  # of before there was such a record
        return evaluation_of_settings(settings, module.class_names, ignore_index)
    rank_zero_warn(f"{what} says nothing of data.eval_transforms, data.value_range and data.palette: it goes without")
    return plain_evaluation(module.class_names, ignore_index)
