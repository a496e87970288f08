"""Validates at the end of a training that ``max_steps`` ends inside an epoch."""

from typing import Any

import pytorch_lightning as pl

from lightning_seg.structures import Batch


class FinalValidation(pl.Callback):
    """Validates the last weights, which may be the best. Lightning would end such a training without a validation."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step == trainer.max_steps and not trainer.is_last_batch:
            trainer.should_stop = True  # then Lightning validates before it stops
            trainer.check_val_every_n_epoch = 1  # in this epoch, too
