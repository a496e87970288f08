"""Finds the place in the epoch where a run goes on: by samples, so that the batches may change."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.callbacks.access import data_of
from lightning_seg.checkpoints.matching import place_of
from lightning_seg.errors import CheckpointError
from lightning_seg.lightning_internals import log_from, validation_is_due
from lightning_seg.structures import Batch


class Position(pl.Callback):
    """Sets Lightning's count of batches to the samples that were seen, divided by this run's batch.

    So an epoch goes on at its next sample and ends at its last one, also with another ``batch_size`` or number of
    processes. ``SegmentationDataModule.batches_begun`` knows how large a batch was.
    """

    def __init__(self) -> None:
        self._goes_on = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to go on inside an epoch whose order has changed.

        Raises:
            CheckpointError: says what differs.
        """
        data = _counting_data(trainer)
        if trainer.state.fn != "fit" or data is None:
            return
        if problems := data.order_problems(inside=place_of(checkpoint)[1] > 0):
            raise CheckpointError("; ".join(problems))
        if changed := data.order_changes():
            rank_zero_info(f"From here on, epochs have another order, because of {' and '.join(changed)}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fit_loop, data = trainer.fit_loop, _counting_data(trainer)
        epoch_loop = fit_loop.epoch_loop
        epochs: Any = fit_loop.epoch_progress  # Lightning declares its counts with a base class
        batches: Any = epoch_loop.batch_progress
        self._goes_on = epoch_loop.restarting
        inside = epochs.current.processed < epochs.current.started and batches.current.processed > 0
        if data is None or not epoch_loop.restarting or not inside:
            return
        limit = int(trainer.num_training_batches)
        before = batches.current.processed
        begun = data.batches_begun(trainer.current_epoch, before, limit, start=True)
        if begun == before:
            return
        total = trainer.current_epoch * limit + begun
        for counts, number in ((batches.current, begun), (batches.total, total)):
            counts.ready = counts.started = counts.processed = counts.completed = number
        batches.is_last_batch = False
        epoch_loop.update_restart_stage()
        validates = epoch_loop.val_loop.restarted_mid_evaluation and validation_is_due(trainer)
        if begun == limit and not validates:  # the samples left fill no batch: the next epoch begins
            for counts in (epochs.current, epochs.total):
                counts.processed = counts.completed = counts.started
            batches.current.reset()
            fit_loop.reset_restart_stage()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self._goes_on:  # Lightning restores the step of logs wrongly if the run stopped between two validations
            log_from(trainer, trainer.global_step)
            self._goes_on = False


def _counting_data(trainer: pl.Trainer) -> Any:
    """The data module, if it counts samples."""
    data: Any = data_of(trainer)
    return data if hasattr(data, "batches_begun") else None
