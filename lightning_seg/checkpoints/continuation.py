"""Lets a training go on from a checkpoint, and records its optimiser and schedule in its own checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.checkpoints.matching import place_of, resume_problems
from lightning_seg.checkpoints.resuming import go_on_with, record_groups, record_training, training_problems
from lightning_seg.errors import CheckpointError
from lightning_seg.lightning_internals import callbacks_of
from lightning_seg.models.optimisation import Optimisation
from lightning_seg.models.segmentor import Segmentor


class Continuation:
    """Replaces the rates and the schedule in a checkpoint by those of this run.

    Lightning loads a checkpoint before it asks for the optimiser or, with some strategies, afterwards. Both work.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Any] | None = None
        """The checkpoint, until there is an optimiser and the training starts."""
        self._record: dict[str, Any] | None = None

    @property
    def done(self) -> tuple[int, int, int] | None:
        """Whole epochs, batches of the next epoch and optimiser steps before this run; None for a new training."""
        return None if self._waiting is None else (*place_of(self._waiting), self._waiting["global_step"])

    def optimise(
        self, optimisation: Optimisation, segmentor: Segmentor, lr_scale: float, total_steps: float
    ) -> tuple[Optimizer, LRScheduler]:
        """Build the optimiser and the schedule, and put them in the place of those of a checkpoint that was loaded.

        Raises:
            CheckpointError: if the state in the checkpoint does not fit them.
        """
        optimizer, scheduler, self._record = _build(optimisation, segmentor, lr_scale, total_steps)
        if self._waiting is not None:
            self._go_on_from(self._waiting, optimizer, scheduler)
        return optimizer, scheduler

    def load(self, checkpoint: dict[str, Any], trainer: pl.Trainer, settings: Mapping[str, Any]) -> None:
        """Let a training go on from a checkpoint.

        Args:
            checkpoint: Lightning's, before it is loaded; changed in place.
            trainer: of the training.
            settings: of the model here.

        Raises:
            CheckpointError: if the training cannot go on from it.
        """
        _refuse(resume_problems(checkpoint, settings, callbacks_of(trainer)))
        if trainer.optimizers:  # the strategy loads late
            self._go_on_from(checkpoint, trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler)
        else:
            self._waiting = checkpoint

    def start(self) -> None:
        """The training starts: the checkpoint has been loaded and is no longer needed."""
        self._waiting = None

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Record the optimiser and the schedule in a checkpoint."""
        if self._record is not None:
            checkpoint["training"] = self._record

    def _go_on_from(self, checkpoint: dict[str, Any], optimizer: Optimizer, scheduler: Any) -> None:
        assert self._record is not None
        if changes := go_on_with(checkpoint, optimizer, scheduler, self._record):
            rank_zero_info(f"Goes on after {checkpoint['global_step']} steps with {'; '.join(changes)}")


def refuse_other_training(
    before: Mapping[str, Any], optimisation: Optimisation, segmentor: Segmentor, lr_scale: float, total_steps: float
) -> None:
    """Refuse a checkpoint whose optimiser or schedule does not fit those of this run.

    Args:
        before: the record in the checkpoint.
        optimisation: builds those of this run.
        segmentor: what is trained.
        lr_scale: what the config's rate is multiplied by.
        total_steps: of the run.

    Raises:
        CheckpointError: says what differs.
    """
    _refuse(training_problems(before, _build(optimisation, segmentor, lr_scale, total_steps)[2]))


def _build(
    optimisation: Optimisation, segmentor: Segmentor, lr_scale: float, total_steps: float
) -> tuple[Optimizer, LRScheduler, dict[str, Any]]:
    """Build the optimiser and the schedule, and their record for a checkpoint."""
    optimizer = optimisation.build_optimizer(segmentor, lr_scale)
    groups = record_groups(optimizer)
    scheduler = optimisation.build_lr_scheduler(optimizer, total_steps, lr_scale)
    return optimizer, scheduler, record_training(groups, optimizer, scheduler, total_steps)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise CheckpointError("; ".join(problems))
