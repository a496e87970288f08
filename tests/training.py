"""A small module, and its training without the command line."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_seg.module import SegmentationModule
from tests.conftest import TINY_OVERRIDES

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"

NAMES = ["a", "b", "c", "d", "e"]


def make(overrides: dict[str, Any] | None = None, **settings: Any) -> SegmentationModule:
    torch.manual_seed(0)
    return SegmentationModule(
        **{"config": ZOO, "class_names": NAMES, "overrides": overrides or TINY_OVERRIDES, "weights": "", **settings}
    )


def fit(module: SegmentationModule, batches: list[Any], folder: Path, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]  # a list is a data set
    return trainer
