"""Saves some evaluated images beside truth, prediction and errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from lightning_seg.callbacks.access import data_of, stored_image
from lightning_seg.callbacks.drawing import Example, draw_grid
from lightning_seg.metrics.functional import confusion_matrix, mean_iou
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch


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
        self._examples: list[Example] = []

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
        info = data_of(trainer).info
        sample, prediction = batch[0], outputs["predictions"][0]
        matrix = confusion_matrix(prediction, sample["truth"], info.num_classes, info.ignore_index)
        self._examples.append(
            Example(
                sample["name"],
                stored_image(trainer, sample, sample["truth"].shape),
                sample["truth"].cpu().numpy(),
                prediction.cpu().numpy(),
                mean_iou(matrix, pl_module.evaluation.absent_classes).item(),
            )
        )

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and self._examples:
            draw_grid(self._examples, data_of(trainer).info, self.path)
