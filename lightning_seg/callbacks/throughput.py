"""Logs how many images the training takes in each second."""

import time
from typing import Any

import pytorch_lightning as pl

from lightning_seg.lightning_internals import logs_step
from lightning_seg.structures import Batch


class Throughput(pl.Callback):
    """Logs ``perf/images_per_s`` over all processes, every ``trainer.log_every_n_steps`` optimiser steps.

    Validation time does not count.
    """

    def __init__(self) -> None:
        self._images = 0
        self._since = 0.0
        self._paused_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since += time.perf_counter() - self._paused_at

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._images += len(batch)
        if trainer.global_step and logs_step(trainer, trainer.global_step):
            rate = self._images * trainer.world_size / (time.perf_counter() - self._since)
            pl_module.log("perf/images_per_s", rate, batch_size=len(batch))
            self._restart()

    def _restart(self) -> None:
        self._images = 0
        self._since = time.perf_counter()
