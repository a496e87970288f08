"""Predicts with an exported file in place of a checkpoint, from the command line."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_seg.checkpoints.evaluated import EXPORTED, value_of
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.reading.rules import USUAL
from lightning_seg.errors import CheckpointError
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch


class ExportedModule(pl.LightningModule):
    """An ``.onnx`` or ``.pt2`` file; takes the place of :class:`SegmentationModule` in ``predict``.

    Args:
        class_names: of the data; the file has its own.
        ignore_index: likewise.
        compile: of no use here.
    """

    def __init__(self, class_names: list[str], ignore_index: int = 255, compile: bool = False) -> None:
        super().__init__()

    def open(self, path: Path, data: SegmentationDataModule, *, on_cpu: bool) -> None:
        """Open the file, and let the data be read as it says, but for what is set.

        Args:
            path: of the file. **A .pt2 file is a program**: only give one that you trust.
            data: of the command.
            on_cpu: whether to leave a GPU alone.

        Raises:
            CheckpointError: if the file cannot be read or used here, or takes other bands than the data has.
            DependencyError: if ONNX Runtime is missing.
        """
        from lightning_seg.trained.file_network import FileNetwork

        self.network = FileNetwork(path, torch.device("cuda" if torch.cuda.is_available() and not on_cpu else "cpu"))
        images = self.network.images
        if data.rules == USUAL:
            data.rules = images.rules
        elif data.rules.channels != images.info.channels:
            raise CheckpointError(
                f"exported file {path} takes images of {images.info.channels} channels, but data.bands names "
                f"{data.rules.channels}: leave data.bands out, which the file knows"
            )
        elif data.rules.bands is not None:
            data.rules = replace(data.rules, dtype=images.info.dtype)
        data.info = images.info
        data.eval_transforms = data.eval_transforms or list(images.transforms)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Tensor]:
        """Label maps, as :meth:`SegmentationModule.predict_step` gives them."""
        return self.network.label_maps(batch)

    def probabilities(self, batch: Batch) -> list[Tensor]:
        """As :meth:`SegmentationModule.probabilities`.

        Raises:
            CheckpointError: if the file does not give them.
        """
        return self.network.probabilities(batch)


def module_for(arguments: Sequence[str]) -> type[pl.LightningModule]:
    """The class of the model that a command line asks for."""
    return SegmentationModule if _exported_file(arguments) is None else ExportedModule


def complete(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the classes of an exported file, which needs no configuration.

    Raises:
        CheckpointError: if the file cannot be read, or the command is not ``predict``.
    """
    from lightning_seg.exporting.running import read_metadata

    path = _exported_file(arguments)
    if path is None:
        return list(arguments)
    if arguments[0] != "predict":
        raise CheckpointError(
            f"{arguments[0]} needs a checkpoint, but {path} is an exported file: predict and lightning_seg.load take it"
        )
    said = read_metadata(path)
    names = ["--data.classes", json.dumps(said.class_names), "--data.ignore_index", str(said.ignore_index)]
    return [arguments[0], *names, *arguments[1:]]


def _exported_file(arguments: Sequence[str]) -> str | None:
    given = value_of("--ckpt_path", arguments)
    return given if given is not None and given.endswith(EXPORTED) else None
