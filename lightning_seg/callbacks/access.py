"""Gets the data module and the W&B loggers of a trainer."""

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from lightning_seg.data import SegmentationDataModule
from lightning_seg.loggers import usable


def data_of(trainer: pl.Trainer) -> SegmentationDataModule:
    """The data module, which a trainer has from the start of a command."""
    data: SegmentationDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by Trainer.fit
    return data


def wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    """The W&B loggers that can be written to; other processes than the main one have none."""
    return usable(trainer.loggers, WandbLogger) if trainer.is_global_zero else []
