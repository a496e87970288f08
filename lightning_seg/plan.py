"""How large a training is: processes, batches and steps, as the trainer's settings come to on this machine."""

import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from lightning_seg.launch import Processes

_DEFAULT_EPOCHS = 1000
"""Of Lightning's, where neither epochs nor steps are given."""


@dataclass(frozen=True)
class Plan:
    """How large a training is.

    Attributes:
        processes: of all machines.
        batch_size: samples per process and batch.
        accumulate: batches per optimiser step.
        samples: of the training data; None where they are not there yet.
        epochs: at most; infinity for no limit.
        max_steps: optimiser steps, at most; infinity for no limit.
        limit: of the batches of an epoch: a number, or a fraction.
    """

    processes: Processes
    batch_size: int
    accumulate: int
    samples: int | None
    epochs: float = math.inf
    max_steps: float = math.inf
    limit: int | float = 1.0

    @property
    def global_batch(self) -> int:
        """Samples per optimiser step."""
        return self.processes.count * self.batch_size * self.accumulate

    @property
    def steps_per_epoch(self) -> int | None:
        if self.samples is None:
            return None
        batches = self.samples // (self.batch_size * self.processes.count)
        batches = min(batches, self.limit) if isinstance(self.limit, int) else int(batches * self.limit)
        return math.ceil(batches / max(1, self.accumulate))

    @property
    def total_steps(self) -> float | None:
        """Infinity where nothing ends the training; None where the data is not there yet."""
        if self.steps_per_epoch is None:
            return None if math.isinf(self.max_steps) else self.max_steps
        return min(self.steps_per_epoch * self.epochs if self.steps_per_epoch else 0, self.max_steps)


def resolve_processes(trainer: Any) -> Processes:
    """What ``trainer.accelerator``, ``devices`` and ``num_nodes`` come to on this machine."""
    accelerator, devices = trainer.accelerator, trainer.devices
    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and gpus):
        return Processes(_count(devices, all_of_them=max(gpus, 1)), trainer.num_nodes, "gpu", gpus)
    if accelerator in ("cpu", "auto"):
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Processes(_count(devices, all_of_them=1), trainer.num_nodes, "cpu", cpus)
    return Processes(_count(devices, all_of_them=1), trainer.num_nodes, "", 0)


def make_plan(trainer: Any, processes: Processes, batch_size: int, samples: int | None) -> Plan:
    """From the trainer's settings."""
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
    )


def plan_problems(plan: Plan, trainer: Any) -> list[str]:
    """Whether there is a step to make: the data fills one batch, and no setting leaves none."""
    problems = _too_small(trainer)
    if plan.samples is None:
        return problems
    batches = plan.samples // (plan.batch_size * plan.processes.count)
    used = min(batches, plan.limit) if isinstance(plan.limit, int) else int(batches * plan.limit)
    if not batches:
        problems.append(
            f"data.train has {plan.samples} samples, fewer than one batch of {plan.batch_size} on each of "
            f"{plan.processes.count} processes: lower data.batch_size"
        )
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
    steps = "unknown until the data is there"
    if plan.steps_per_epoch is not None and total is not None:
        times = "" if math.isinf(plan.epochs) else f" × {plan.epochs:.0f} epochs"
        limit = "" if math.isinf(plan.max_steps) else f", at most {plan.max_steps:.0f}"
        end = "without an end" if math.isinf(total) else f"{total:.0f} in total"
        steps = f"{plan.steps_per_epoch} per epoch{times}{limit}: {end}"
    here = f" ({processes.available} here)" if processes.kind else ""
    return [
        ("devices", f"{processes.devices} {processes.kind or 'other'}{here}"),
        (
            "global batch",
            f"{processes.devices} devices × {processes.nodes} nodes × batch {plan.batch_size} × accumulation "
            f"{plan.accumulate} = {plan.global_batch}",
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
