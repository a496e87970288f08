"""Images, and a checkpoint that no command wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from lightning_seg import SegmentationDataModule, SegmentationModule
from lightning_seg.data import Folder
from tests.conftest import CLASSES, TINY_OVERRIDES


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def trained_by_hand(folder: Path, scenes: Path, model: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A checkpoint that a plain Trainer wrote, with settings of its model and of its data."""
    reader = Folder(images=str(scenes / "val/images"), masks=str(scenes / "val/masks"))
    data = SegmentationDataModule(CLASSES, reader, reader, batch_size=2, num_workers=0, **settings)
    usual: dict[str, Any] = {"config": "Misc/semantic_R_50_FPN_1x.yaml", "overrides": TINY_OVERRIDES, "weights": ""}
    module = SegmentationModule(class_names=CLASSES, **{**usual, **(model or {})})
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "m.ckpt", weights_only=True)
    return folder / "m.ckpt"
