"""Label maps as pictures: overlays and the grid that a run ends with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.labels.colours import colourise
from lightning_seg.data.reading import read_image
from lightning_seg.metrics.functional import confusion_matrix, mean_iou
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch, DatasetInfo, show_colour

RGBImage = NDArray[np.uint8]

RIGHT, WRONG = (225, 225, 225), (200, 30, 30)
"""Colours of the error map."""

_LONGEST_SIDE = 512
_NAMED = 38
"""Classes in the legend."""


def overlay(image: RGBImage, labels: NDArray[Any], info: DatasetInfo, opacity: float = 0.55) -> RGBImage:
    """The image with its label map laid over it, both (H, W, …)."""
    return cv2.addWeighted(image, 1 - opacity, colourise(labels, info), opacity, 0).astype(np.uint8)


def reduce(picture: RGBImage, longest_side: int) -> RGBImage:
    """The (H, W, 3) picture, averaged down to where its longest side fits."""
    scale = longest_side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return cv2.resize(picture, _reduced_size(picture.shape, scale), interpolation=cv2.INTER_AREA).astype(np.uint8)


def reduce_labels(labels: NDArray[Any], longest_side: int) -> NDArray[Any]:
    """The (H, W) ids, thinned out to the size that :func:`reduce` gives the image."""
    scale = longest_side / max(labels.shape)
    if scale >= 1:
        return labels
    width, height = _reduced_size(labels.shape, scale)
    rows = (np.arange(height) + 0.5) * labels.shape[0] / height
    columns = (np.arange(width) + 0.5) * labels.shape[1] / width
    thinned: NDArray[Any] = labels[rows.astype(int)[:, None], columns.astype(int)]
    return thinned


def _reduced_size(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Width and height, as OpenCV wants them."""
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


@dataclass(frozen=True)
class _Example:
    name: str
    image: RGBImage
    truth: NDArray[Any]
    prediction: NDArray[Any]
    mean_iou: float


class ResultGrid(pl.Callback):
    """Saves ``predictions.png``: some evaluated images beside truth, prediction and error map.

    The samples are spread evenly over the split, the same at every evaluation. The file is written when the
    command ends, on the main process.

    Args:
        folder: of the run.
        rows: how many samples.
    """

    def __init__(self, folder: Path, rows: int = 4) -> None:
        self.path = folder / "predictions.png"
        self.rows = rows
        self._examples: list[_Example] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._examples = []

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(trainer, pl_module, outputs, batch, batch_idx, trainer.num_val_batches)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(trainer, pl_module, outputs, batch, batch_idx, trainer.num_test_batches)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._save(trainer)

    on_test_end = on_validation_end

    def _collect(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, list[Tensor]],
        batch: Batch,
        batch_idx: int,
        num_batches: Sequence[float],
    ) -> None:
        chosen = np.linspace(0, num_batches[0] - 1, self.rows).round()
        if not batch or not trainer.is_global_zero or trainer.sanity_checking or batch_idx not in chosen:
            return
        assert isinstance(pl_module, SegmentationModule)
        info = _info(trainer)
        sample, prediction = batch[0], outputs["predictions"][0]
        matrix = confusion_matrix(prediction, sample["truth"], info.num_classes, info.ignore_index)
        self._examples.append(
            _Example(
                sample["name"],
                read_image(Path(sample["file_name"]), trainer.datamodule.rules),  # type: ignore[attr-defined]  # as below
                sample["truth"].cpu().numpy(),
                prediction.cpu().numpy(),
                mean_iou(matrix, pl_module.evaluation.absent_classes).item(),
            )
        )

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and self._examples:
            _draw_grid(self._examples, _info(trainer), self.path)


def _info(trainer: pl.Trainer) -> DatasetInfo:
    datamodule: SegmentationDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by Trainer.fit
    return datamodule.info


def error_map(prediction: NDArray[Any], truth: NDArray[Any], info: DatasetInfo) -> RGBImage:
    """(H, W, 3): light where the prediction is right, red where it is wrong, the ignore colour where that is open."""
    shown = np.where((prediction == truth)[..., None], RIGHT, WRONG)
    shown[truth == info.ignore_index] = info.ignore_colour
    return shown.astype(np.uint8)


def _draw_grid(examples: Sequence[_Example], info: DatasetInfo, path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    aspect = examples[0].image.shape[0] / examples[0].image.shape[1]
    figure = Figure(figsize=(12, len(examples) * (3 * aspect + 0.28) + 0.7), dpi=110, layout="constrained")
    axes = figure.subplots(len(examples), 4, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        panels = (
            (example.name, example.image),
            ("truth", colourise(example.truth, info)),
            (f"prediction, mIoU {example.mean_iou:.3f}", colourise(example.prediction, info)),
            ("errors", error_map(example.prediction, example.truth, info)),
        )
        for axis, (title, picture) in zip(row, panels, strict=True):
            axis.imshow(reduce(picture, _LONGEST_SIDE))
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    colours = [*zip(info.names, info.palette, strict=True)][:_NAMED]
    colours += [("wrong", WRONG), ("ignored", info.ignore_colour)]
    legend = [Patch(color=show_colour(colour), label=name) for name, colour in colours]
    figure.legend(handles=legend, loc="outside lower center", ncols=min(8, len(legend)), fontsize=8, frameon=False)
    figure.savefig(path)
