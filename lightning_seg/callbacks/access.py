"""Gets the data module and the W&B loggers of a trainer."""

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger

from lightning_seg.callbacks.drawing import at_stored_size
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.reading import USUAL, as_shown
from lightning_seg.errors import ConfigError
from lightning_seg.loggers import usable
from lightning_seg.metrics import ImageFigures
from lightning_seg.structures import Item


def data_of(trainer: pl.Trainer) -> SegmentationDataModule:
    """The data module of the command.

    Raises:
        ConfigError: if the trainer was given data loaders without one.
    """
    data: SegmentationDataModule | None = getattr(trainer, "datamodule", None)  # set by Trainer.fit
    if data is None:
        raise ConfigError(
            "a callback of this trainer asks for class names and settings of the data: give the trainer a "
            "lightning_seg.SegmentationDataModule in place of data loaders, or leave the callback out"
        )
    return data


def stored_image(trainer: pl.Trainer, sample: Item, size: Sequence[int]) -> NDArray[np.uint8]:
    """The image of a sample that is being evaluated or predicted, as stored, but (H, W, 3) RGB as pictures show it.

    The data set decodes it once more. Where the sample comes from a loader without a
    :class:`~lightning_seg.data.SegmentationDataModule`, it is the image of the batch, brought back to the stored size.

    Args:
        trainer: in an evaluation or a prediction.
        sample: of the batch that is being evaluated.
        size: stored height and width.

    Raises:
        DataError: if the image cannot be read any more.
    """
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, SegmentationDataModule) and (stage := trainer.state.stage) is not None:
        dataset, position = data.datasets.get(stage.dataloader_prefix or ""), sample.get("position", -1)
        if dataset is not None and dataset.holds(sample, position):
            return as_shown(dataset.stored_image(position), dataset.rules)
    image = shown_input(trainer, sample)
    return at_stored_size(image, (size[0], size[1]), sample.get("placement"))


def shown_input(trainer: pl.Trainer, sample: Item) -> NDArray[np.uint8]:
    """The image of a batch, after the transforms, (h, w, 3) RGB as pictures show it."""
    data = getattr(trainer, "datamodule", None)
    rules = data.rules if isinstance(data, SegmentationDataModule) else USUAL
    return as_shown(np.ascontiguousarray(sample["image"].cpu().numpy().transpose(1, 2, 0)), rules)


def columns_of(trainer: pl.Trainer, split: str, images: ImageFigures) -> dict[str, list[str]]:
    """What the readers keep of evaluated images beside their files: values of each image, by the name of the column.

    Args:
        trainer: of the evaluation.
        split: that was evaluated.
        images: that were evaluated. One whose reader lacks a column that another reader has, has an empty value.
    """
    datasets = getattr(getattr(trainer, "datamodule", None), "datasets", {})
    if split not in datasets:
        return {}
    each = [dict(datasets[split].samples[position].columns) for position in images.positions.tolist()]
    names = dict.fromkeys(column for values in each for column in values)
    return {column: [values.get(column, "") for values in each] for column in names}


def wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    """The W&B loggers that can be written to; other processes than the main one have none."""
    return usable(trainer.loggers, WandbLogger) if trainer.is_global_zero else []
