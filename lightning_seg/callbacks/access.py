"""What callbacks ask a trainer for, though Lightning does not declare it."""

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from lightning_seg.data import SegmentationDataModule
from lightning_seg.loggers import usable


def data_of(trainer: pl.Trainer) -> SegmentationDataModule:
    """The data module, which is there since a command began."""
    data: SegmentationDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by Trainer.fit
    return data


def wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    """Those that can be written to, on the main process; none on the others."""
    return usable(trainer.loggers, WandbLogger) if trainer.is_global_zero else []
