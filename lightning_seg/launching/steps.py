"""Counts the optimiser steps that a trainer will make once it knows its data, and the samples of each step."""

import math

import pytorch_lightning as pl

from lightning_seg.errors import ConfigError
from lightning_seg.launching.plan import accumulation_problem, changing_accumulation, count_steps
from lightning_seg.lightning_internals import callbacks_of


def total_steps(trainer: pl.Trainer, done: tuple[int, int, int] | None) -> float:
    """Count the optimiser steps of the whole training.

    Lightning's count leaves out a ``GradientAccumulationScheduler``, and takes the batches before a checkpoint to be
    like those of this run.

    Args:
        trainer: knows its data.
        done: whole epochs, batches of the next epoch and optimiser steps before a checkpoint; None without one.
    """
    here = trainer.estimated_stepping_batches
    factors = changing_accumulation(callbacks_of(trainer))
    if trainer.max_epochs in (None, -1) or math.isinf(trainer.num_training_batches):
        return here
    if factors is None and done is None:
        return here
    factors = factors or {0: trainer.accumulate_grad_batches}
    batches = int(trainer.num_training_batches)
    total = count_steps(batches, trainer.max_epochs, factors)
    if done is not None:
        epochs, begun, steps = done
        find = getattr(trainer.datamodule, "batches_begun", None)  # type: ignore[attr-defined]  # of fit
        if begun and find is not None:
            begun = find(epochs, begun, batches)
        factor = factors[max(start for start in factors if start <= epochs)]
        of_this_one = math.ceil(begun / factor) if begun == batches else begun // factor
        total += steps - count_steps(batches, epochs, factors) - of_this_one
    return total if trainer.max_steps == -1 else min(total, trainer.max_steps)


def global_batch(trainer: pl.Trainer) -> int:
    """Count the samples of an optimiser step.

    Raises:
        ConfigError: if they change from epoch to epoch, or the data module does not say its batch.
    """
    factors = changing_accumulation(callbacks_of(trainer))
    if problem := accumulation_problem(factors, scales=True):
        raise ConfigError(problem)
    batch_size = getattr(trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]  # of fit
    if batch_size is None:
        raise ConfigError("model.scale_lr needs a data module that says its batch_size, as SegmentationDataModule does")
    accumulate = trainer.accumulate_grad_batches if factors is None else factors[0]
    return int(trainer.world_size * batch_size * accumulate)
