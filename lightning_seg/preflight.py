"""Whether a training can work, before it starts: its size, its files and its schedule, as lines and as a table."""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.launch import Processes, describe_launch
from lightning_seg.module import SegmentationModule

_LENGTHS = ("total_steps", "total_iters", "T_max")
"""What torch's schedules call the number of steps that they are made for."""

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
        return math.ceil(batches / self.accumulate)

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


def training_problems(settings: Any, model: SegmentationModule, plan: Plan) -> list[str]:
    """What shows once model and data are there: weights that the config names, the schedule, a batch without data."""
    problems = plan_problems(plan)
    if settings.model.weights is None and settings.ckpt_path is None:
        problems += [problem for problem in [weights_problem(model.weights)] if problem]
    if settings.trainer.fast_dev_run:
        return problems
    if model.make_lr_scheduler is None:
        return problems + [problem for problem in [model.recipe.schedule_problem()] if problem]
    return problems + schedule_problems(model.make_lr_scheduler(_optimizer(model)), plan.total_steps)


def plan_problems(plan: Plan) -> list[str]:
    """Whether the data fills one batch."""
    whole = plan.batch_size * plan.processes.count
    if plan.samples is None or plan.samples >= whole:
        return []
    return [
        f"data.train has {plan.samples} samples, fewer than one batch of {plan.batch_size} on each of "
        f"{plan.processes.count} processes: lower data.batch_size"
    ]


def folder_problem(folder: Path) -> str | None:
    """Why nothing can be written to a folder, which need not exist yet; tried by making one there and removing it."""
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        return f"the run's folder {folder} cannot be made ({existing} is a file): set trainer.default_root_dir"
    try:
        Path(tempfile.mkdtemp(prefix=".lightning_seg-", dir=existing)).rmdir()
    except OSError as error:
        return (
            f"the run's folder {folder} cannot be written: {existing}: {error.strerror}; set trainer.default_root_dir"
        )
    return None


def weights_problem(weights: str | None) -> str | None:
    """Whether a file of weights is missing; addresses are not asked."""
    if not weights or "://" in weights or Path(os.path.expandvars(weights)).expanduser().is_file():
        return None
    return f"weights {weights} do not exist: give model.weights another path, or '' for random weights"


def schedule_problems(scheduler: Any, total_steps: float | None) -> list[str]:
    """Whether a user's own schedule, stepped after every optimiser step, is longer than the run.

    Also whether ``OneCycleLR``, which raises past its end, is shorter.
    """
    if total_steps is None or math.isinf(total_steps):
        return []
    problems = []
    for name, end, raises in _ends(scheduler):
        if end > total_steps:
            problems.append(
                f"model.lr_scheduler: {name} is made for {end} steps, but the run has {total_steps:.0f}: it counts "
                "optimiser steps"
            )
        elif raises and end < total_steps:
            problems.append(
                f"model.lr_scheduler: {name} ends after {end} steps, but the run has {total_steps:.0f}: it would fail "
                "there"
            )
    return problems


def describe_loggers(loggers: Any, environment: Mapping[str, str]) -> str:
    """Names of the loggers, as the trainer's settings give them, and whether W&B is on line."""
    if loggers is False:
        return "none"
    names = ["metrics.csv"]
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        path = getattr(logger, "class_path", None)
        if path is None:
            continue
        name, options = path.rpartition(".")[2], logger.get("init_args") or {}
        if name == "WandbLogger":
            given = (options.get("dict_kwargs") or {}).get("mode") or (logger.get("dict_kwargs") or {}).get("mode")
            mode = "offline" if options.get("offline") else given or environment.get("WANDB_MODE") or "online"
            name = f"W&B {mode}"
        names.append(name)
    return ", ".join(names)


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, title="Dry run: nothing is trained", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file has no width
        console.width = 20 + max(len(name) + len(value) for name, value in rows)
    console.print(table)


def table(
    settings: Any,
    model: SegmentationModule,
    plan: Plan,
    folder: Path,
    resumed_step: int | None,
    environment: Mapping[str, str],
) -> list[tuple[str, str]]:
    """What a dry run prints: names and values."""
    optimizer = _optimizer(model)
    rates = " and ".join(f"{rate:g}" for rate in sorted({group["lr"] for group in optimizer.param_groups}))
    schedule = "the config's schedule" if model.make_lr_scheduler is None else "model.lr_scheduler"
    goes_on = "new" if resumed_step is None else f"goes on after step {resumed_step}"
    return [
        ("started by", describe_launch(environment, plan.processes)),
        *_plan_rows(plan),
        ("learning rate", f"{rates}, {type(optimizer).__name__}, {schedule}"),
        ("precision", str(settings.trainer.precision or "32-true")),
        ("weights", settings.ckpt_path or model.weights or "random"),
        ("run folder", f"{folder}: {goes_on}, {'not writable' if folder_problem(folder) else 'can be written'}"),
        ("loggers", describe_loggers(settings.trainer.logger, environment)),
    ]


def _plan_rows(plan: Plan) -> list[tuple[str, str]]:
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


def _optimizer(model: SegmentationModule) -> Optimizer:
    """One like that of the training, to look at."""
    if model.make_optimizer is None:
        return model.recipe.build_optimizer(model.segmentor.network)
    return model.make_optimizer(parameter for parameter in model.parameters() if parameter.requires_grad)


def _count(devices: Any, *, all_of_them: int) -> int:
    if isinstance(devices, str):
        if devices.lstrip("-").isdigit():
            devices = int(devices)
        else:
            return all_of_them if devices == "auto" else len([part for part in devices.split(",") if part.strip()])
    if isinstance(devices, int):
        return all_of_them if devices == -1 else devices
    return len(devices)


def _ends(scheduler: Any, start: int = 0) -> Iterator[tuple[str, int, bool]]:
    """Name, last step of every part of one of torch's schedules, and whether it raises there."""
    kind = type(scheduler).__name__
    parts = getattr(scheduler, "_schedulers", None)
    borders = list(getattr(scheduler, "_milestones", []))
    if parts is not None:
        starts = [start, *(start + border for border in borders)] if borders else [start] * len(parts)
        for part, first in zip(parts, starts, strict=True):
            yield from _ends(part, first)
        return
    if not isinstance(scheduler, LRScheduler):
        return
    for name in _LENGTHS:
        if isinstance(length := getattr(scheduler, name, None), int):
            yield f"{kind}({name}={length})", start + length, name == "total_steps"
    if milestones := list(getattr(scheduler, "milestones", [])):
        yield f"{kind}(milestones={sorted(milestones)})", start + max(milestones), False
