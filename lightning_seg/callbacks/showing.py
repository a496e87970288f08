"""Logs pictures of samples: to W&B with masks to switch on and off, to TensorBoard as overlays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, WandbLogger

from lightning_seg.callbacks.drawing import RGBImage, error_map
from lightning_seg.callbacks.wandb_masks import error_ids, largest, padded, wandb_image
from lightning_seg.predictions import overlay
from lightning_seg.structures import DatasetInfo


@dataclass(frozen=True)
class Shown:
    """One evaluated sample, reduced to the size that is shown; its figures were counted at the stored size."""

    name: str
    image: RGBImage
    truth: NDArray[Any]
    prediction: NDArray[Any]
    mean_iou: float
    pixel_accuracy: float


def log_evaluation(
    logger: Logger, split: str, shown: Sequence[Shown], info: DatasetInfo, epoch: int, step: int
) -> None:
    """Log evaluated samples as ``SPLIT/pictures``, and to W&B also the table ``SPLIT/samples``.

    Args:
        logger: of W&B or TensorBoard.
        split: ``val`` or ``test``.
        shown: the samples in the order in which they are shown.
        info: names and colours.
        epoch: a column of the table.
        step: at which all is logged.
    """
    if isinstance(logger, WandbLogger):
        _log_to_wandb(logger, split, shown, info, epoch, step)
    else:
        _log_overlays(logger, f"{split}/pictures", {each.name: _panel(each, info) for each in shown}, step)


def log_training(
    logger: Logger, pairs: Mapping[str, tuple[RGBImage, NDArray[Any]]], info: DatasetInfo, step: int
) -> None:
    """Log ``train/pictures``.

    Args:
        logger: of W&B or TensorBoard.
        pairs: image (H, W, 3) and label map (H, W) by the sample's name.
        info: names and colours.
        step: at which they are logged.
    """
    if not isinstance(logger, WandbLogger):
        panels = {name: np.hstack([image, overlay(image, labels, info)]) for name, (image, labels) in pairs.items()}
        _log_overlays(logger, "train/pictures", panels, step)
        return
    size = largest(image for image, _ in pairs.values())
    same = {
        name: (padded(image, size, 0), padded(labels, size, info.ignore_index))
        for name, (image, labels) in pairs.items()
    }
    pictures = [
        wandb_image(image, {"ground_truth": labels}, info, partial(overlay, image, labels, info), name)
        for name, (image, labels) in same.items()
    ]
    logger.log_metrics({"train/pictures": pictures}, step)  # type: ignore[dict-item]


def _log_to_wandb(
    logger: WandbLogger, split: str, shown: Sequence[Shown], info: DatasetInfo, epoch: int, step: int
) -> None:
    import wandb

    size = largest(each.image for each in shown)
    shown = [
        replace(
            each,
            image=padded(each.image, size, 0),
            truth=padded(each.truth, size, info.ignore_index),
            prediction=padded(each.prediction, size, info.ignore_index),
        )
        for each in shown
    ]
    pictures = [
        wandb_image(
            each.image,
            {"predictions": each.prediction, "ground_truth": each.truth},
            info,
            partial(_panel, each, info),
            f"{each.name}: mIoU {each.mean_iou:.3f}",
            error_ids(each.prediction, each.truth, info),
        )
        for each in shown
    ]
    table = wandb.Table(columns=["name", "picture", "mIoU", "pAcc", "epoch", "step"])
    for each, picture in zip(shown, pictures, strict=True):
        figures = [None if np.isnan(value) else value for value in (each.mean_iou, each.pixel_accuracy)]
        table.add_data(each.name, picture, *figures, epoch, step)
    logged: Mapping[str, Any] = {f"{split}/pictures": pictures, f"{split}/samples": table}
    logger.log_metrics(logged, step)


def _log_overlays(logger: Logger, tag: str, panels: Mapping[str, RGBImage], step: int) -> None:
    for name, panel in panels.items():
        logger.experiment.add_image(f"{tag}/{name}", panel, step, dataformats="HWC")  # type: ignore[attr-defined]


def _panel(shown: Shown, info: DatasetInfo) -> RGBImage:
    """Image, truth over the image, prediction over the image, and errors, side by side."""
    return np.hstack(
        [
            shown.image,
            overlay(shown.image, shown.truth, info),
            overlay(shown.image, shown.prediction, info),
            error_map(shown.prediction, shown.truth, info),
        ]
    )
