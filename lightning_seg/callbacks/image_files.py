"""Writes the counts and figures of each image of ``validate`` and ``test``: ``images.csv`` and ``images.npz``."""

import csv
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pytorch_lightning as pl
from numpy.lib import format as npy
from numpy.typing import NDArray
from pytorch_lightning.trainer.states import TrainerFn

from lightning_seg.callbacks.access import columns_of
from lightning_seg.files import replacing
from lightning_seg.metrics import ImageFigures
from lightning_seg.module import SegmentationModule

_COUNTS_AT_ONCE = 2**22
"""How many cells of the matrices are in memory at once while they are written."""


class ImageFiles(pl.Callback):
    """Writes ``images.csv`` and ``images.npz`` when ``validate`` or ``test`` ends, not in a training.

    Images have the names of the data module's samples; without such a module, their positions in the data.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING or not trainer.is_global_zero:
            return
        if isinstance(pl_module, SegmentationModule) and pl_module.report is not None:
            report = pl_module.report
            names = _names(trainer, report.split, report.images)
            columns = columns_of(trainer, report.split, report.images)
            with replacing(self.folder / "images.csv") as file:
                write_table(file, names, report.class_names, report.images, columns)
            with replacing(self.folder / "images.npz") as file:
                write_arrays(file, names, report.class_names, report.images)

    on_test_end = on_validation_end


def _names(trainer: pl.Trainer, split: str, images: ImageFigures) -> list[str]:
    datasets = getattr(trainer.datamodule, "datasets", {})  # type: ignore[attr-defined]  # of pl.Trainer
    samples = datasets[split].samples if split in datasets else None
    positions = images.positions.tolist()
    return [str(position) if samples is None else samples[position].name for position in positions]


def write_table(
    file: IO[bytes],
    names: Sequence[str],
    class_names: Sequence[str],
    images: ImageFigures,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a row of figures for each image, as UTF-8; figures that do not exist are empty.

    Args:
        file: to write to.
        names: of the images.
        class_names: K names in id order.
        images: their figures.
        columns: values of further columns of the images, by name.
    """
    further = columns or {}
    # A file name may be no valid text: its bytes are kept.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "mIoU", "pAcc", "pixels", "loss", *(f"IoU/{name}" for name in class_names), *further])
    figures_of_each = (images.mean_iou, images.pixel_accuracy, images.pixels, images.losses, images.iou)
    values = zip(*further.values(), strict=True) if further else [()] * len(names)
    for name, *figures, iou, own in zip(names, *(figure.tolist() for figure in figures_of_each), values, strict=True):
        writer.writerow([name, *("" if math.isnan(value) else value for value in [*figures, *iou]), *own])
    text.detach()


def write_arrays(file: IO[bytes], names: Sequence[str], class_names: Sequence[str], images: ImageFigures) -> None:
    """Write ``names``, ``class_names``, ``losses`` and ``matrices`` as ``np.load`` reads them.

    The file is that of :func:`numpy.savez_compressed`, but the N·K² counts are never all in memory.

    Args:
        file: to write to.
        names: of the N images.
        class_names: K names in id order.
        images: their figures.
    """
    classes = len(class_names)
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in (
            ("names", np.array(names, dtype=np.str_)),
            ("class_names", np.array(class_names, dtype=np.str_)),
            ("losses", images.losses.numpy()),
        ):
            with _member(archive, name) as member:
                npy.write_array(member, array, allow_pickle=False)
        with _member(archive, "matrices") as member:
            shape = (len(images), classes, classes)
            npy.write_array_header_1_0(
                member, {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(images.count_type)}
            )
            step = max(1, _COUNTS_AT_ONCE // classes**2)
            for first in range(0, len(images), step):
                part: NDArray[np.unsignedinteger] = images.matrices(first, first + step)
                member.write(part.data)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Begin a compressed array in an archive, with a fixed date, so that the same figures make the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)
