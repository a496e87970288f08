"""Computes how large a training is from the trainer's settings: its processes, batches and steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder, GradientAccumulationScheduler

from lightning_seg.data.loading.sampler import batch_problem
from lightning_seg.launching.starters import Processes
from lightning_seg.machine import usable_cpus

_DEFAULT_EPOCHS = 1000
"""How many epochs Lightning trains if neither epochs nor steps are given."""

_LOG_INTERVAL = 50
"""Optimiser steps from one row of figures to the next, as Lightning has it."""


@dataclass(frozen=True)
class Plan:
    """How large a training is.

    Attributes:
        processes: of all machines.
        batch_size: samples per process and batch.
        accumulate: batches per optimiser step.
        samples: of the training data; None if the data is not there yet.
        epochs: at most; infinity for no limit.
        max_steps: optimiser steps at most; infinity for no limit.
        limit: how many batches of an epoch are used: a number, or a fraction.
        changes: batches per optimiser step by the epoch from which they count; None if they are always ``accumulate``.
        seeks_batch: whether a ``BatchSizeFinder`` will replace ``batch_size``.
    """

    processes: Processes
    batch_size: int
    accumulate: int
    samples: int | None
    epochs: float = math.inf
    max_steps: float = math.inf
    limit: int | float = 1.0
    changes: Mapping[int, int] | None = None
    seeks_batch: bool = False

    @property
    def global_batch(self) -> int:
        """Samples per optimiser step, in the first epoch."""
        return self.processes.count * self.batch_size * self._factors[0]

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches of an epoch; None if the data is not there yet, or the batch is not known."""
        if self.samples is None or self.seeks_batch:
            return None
        batches = self.samples // (self.batch_size * self.processes.count)
        return min(batches, self.limit) if isinstance(self.limit, int) else int(batches * self.limit)

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimiser steps of the first epoch."""
        return None if self.batches_per_epoch is None else int(count_steps(self.batches_per_epoch, 1, self._factors))

    @property
    def _factors(self) -> Mapping[int, int]:
        return self.changes or {0: max(1, self.accumulate)}

    @property
    def total_steps(self) -> float | None:
        """Optimiser steps of the training; infinity if nothing ends it, None if that cannot be known yet."""
        if self.batches_per_epoch is None:
            return None if math.isinf(self.max_steps) else self.max_steps
        return min(count_steps(self.batches_per_epoch, self.epochs, self._factors), self.max_steps)

    @property
    def log_interval(self) -> int:
        """Optimiser steps from one row of figures to the next: Lightning's 50, or those of an epoch if it has fewer.

        By Lightning's alone, the loss of a training on few images would seldom be logged, or never.
        """
        return int(min([_LOG_INTERVAL, *(steps for steps in (self.steps_per_epoch, self.total_steps) if steps)]))


def count_steps(batches: int, epochs: float, factors: Mapping[int, int]) -> float:
    """Count the optimiser steps of some epochs; the last step of an epoch may have fewer batches.

    Args:
        batches: of an epoch.
        epochs: how many; may be infinity.
        factors: batches per step by the epoch from which they count; epoch 0 is one of them.

    >>> count_steps(5, 3, {0: 1, 1: 2})  # 5, then twice 2 + 2 + 1
    11
    >>> count_steps(5, 0, {0: 1})
    0
    """
    if not batches or epochs <= 0:
        return 0
    starts = [start for start in sorted(factors) if start < epochs]
    lengths = [end - start for start, end in zip(starts, [*starts[1:], epochs], strict=True)]
    return sum(math.ceil(batches / factors[start]) * length for start, length in zip(starts, lengths, strict=True))


def changing_accumulation(callbacks: Sequence[pl.Callback]) -> Mapping[int, int] | None:
    """What a ``GradientAccumulationScheduler`` says: batches per optimiser step by the epoch from which they count."""
    for callback in callbacks:
        if isinstance(callback, GradientAccumulationScheduler):
            return {epoch: callback.scheduling[epoch] for epoch in sorted(callback.scheduling)}
    return None


def accumulation_problem(factors: Mapping[int, int] | None, accumulate: int = 1, *, scales: bool) -> str | None:
    """Why an accumulation that changes contradicts the trainer's setting or a scaled learning rate.

    Args:
        factors: what :func:`changing_accumulation` returns.
        accumulate: ``trainer.accumulate_grad_batches``.
        scales: whether the learning rate is multiplied by the global batch.
    """
    if factors is None:
        return None
    if accumulate != 1:
        return (
            f"trainer.accumulate_grad_batches is {accumulate}, but GradientAccumulationScheduler sets it epoch by "
            "epoch: leave one of them out"
        )
    if scales and len(set(factors.values())) > 1:
        return (
            "model.scale_lr multiplies the learning rate by one global batch, but GradientAccumulationScheduler "
            f"changes it ({_describe(factors)}): set the rate itself in SOLVER.BASE_LR, or leave one of the two out"
        )
    return None


def _describe(factors: Mapping[int, int]) -> str:
    return ", ".join(f"{factor} from epoch {epoch} on" for epoch, factor in factors.items())


def resolve_processes(trainer: Any) -> Processes:
    """Find the processes that ``trainer.accelerator``, ``devices`` and ``num_nodes`` mean on this machine."""
    accelerator, devices = trainer.accelerator, trainer.devices
    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and gpus):
        return Processes(_count(devices, all_of_them=max(gpus, 1)), trainer.num_nodes, "gpu", gpus)
    if accelerator in ("cpu", "auto"):
        return Processes(_count(devices, all_of_them=1), trainer.num_nodes, "cpu", usable_cpus(1))
    return Processes(_count(devices, all_of_them=1), trainer.num_nodes, "", 0)


def make_plan(
    trainer: Any,
    processes: Processes,
    batch_size: int,
    samples: int | None,
    callbacks: Sequence[pl.Callback] = (),
) -> Plan:
    """Make the plan from the trainer's settings and callbacks."""
    epochs, max_steps = trainer.max_epochs, trainer.max_steps
    if epochs is None:
        epochs = _DEFAULT_EPOCHS if max_steps == -1 else -1
    limit = trainer.limit_train_batches
    if trainer.overfit_batches:
        limit = trainer.overfit_batches
    if trainer.fast_dev_run:
        limit = max_steps = int(trainer.fast_dev_run)
    return Plan(
        processes,
        batch_size,
        trainer.accumulate_grad_batches,
        samples,
        math.inf if epochs == -1 else epochs,
        math.inf if max_steps == -1 else max_steps,
        1.0 if limit is None else limit,
        changing_accumulation(callbacks),
        any(isinstance(callback, BatchSizeFinder) for callback in callbacks),
    )


def plan_problems(plan: Plan, trainer: Any) -> list[str]:
    """Why there would be no step to make, or no validation: too little data, or settings that leave no batch."""
    problems = _too_small(trainer)
    if plan.samples is None or plan.seeks_batch:
        return problems
    batches = plan.samples // (plan.batch_size * plan.processes.count)
    used = min(batches, plan.limit) if isinstance(plan.limit, int) else int(batches * plan.limit)
    if problem := batch_problem(plan.samples, plan.batch_size, plan.processes.count):
        problems.append(problem)
    elif not used:
        name = "overfit_batches" if trainer.overfit_batches else "limit_train_batches"
        problems.append(
            f"trainer.{name} {plan.limit} leaves none of the {batches} batches of an epoch: give a whole number from "
            f"1, or a fraction from {1 / batches:.3g}"
        )
    elif (
        isinstance(interval := trainer.val_check_interval, int)
        and interval > used
        and trainer.check_val_every_n_epoch is not None
        and not trainer.fast_dev_run
    ):
        problems.append(
            f"trainer.val_check_interval is {interval}, but an epoch has {used} batches: lower it, or set "
            "trainer.check_val_every_n_epoch to null, which counts batches over epochs"
        )
    return problems


def _too_small(trainer: Any) -> list[str]:
    problems = []
    for name in ("accumulate_grad_batches", "max_steps", "max_epochs", "check_val_every_n_epoch"):
        value, limit = getattr(trainer, name), name.startswith("max_")
        if value is not None and value < 1 and not (limit and value == -1):
            problems.append(f"trainer.{name} is {value}, but must be at least 1{', or -1: no limit' if limit else ''}")
    return problems


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """Names and values for a person."""
    processes, total = plan.processes, plan.total_steps
    steps = "unknown until BatchSizeFinder has found a batch" if plan.seeks_batch else "unknown until the data is there"
    batch = f"{plan.batch_size}{' (BatchSizeFinder seeks another)' if plan.seeks_batch else ''}"
    if plan.steps_per_epoch is not None and total is not None:
        times = "" if math.isinf(plan.epochs) else f" {'×' if plan.changes is None else 'of'} {plan.epochs:.0f} epochs"
        limit = "" if math.isinf(plan.max_steps) else f", at most {plan.max_steps:.0f}"
        end = "without an end" if math.isinf(total) else f"{total:.0f} in total"
        per_epoch = f"{plan.steps_per_epoch} {'per' if plan.changes is None else 'in the first'} epoch"
        steps = f"{per_epoch}{times}{limit}: {end}"
    here = f" ({processes.available} here)" if processes.kind else ""
    return [
        ("devices", f"{processes.devices} {processes.kind or 'other'}{here}"),
        (
            "global batch",
            f"{processes.devices} devices × {processes.nodes} nodes × batch {batch} × accumulation "
            + (f"{plan.accumulate} = {plan.global_batch}" if plan.changes is None else _describe(plan.changes)),
        ),
        ("training data", "not there yet" if plan.samples is None else f"{plan.samples} samples"),
        ("optimiser steps", steps),
    ]


def _count(devices: Any, *, all_of_them: int) -> int:
    if isinstance(devices, str):
        if devices.lstrip("-").isdigit():
            devices = int(devices)
        else:
            return all_of_them if devices == "auto" else len([part for part in devices.split(",") if part.strip()])
    if isinstance(devices, int):
        return all_of_them if devices == -1 else devices
    return len(devices)
