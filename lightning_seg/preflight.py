"""Whether a run can work, before it starts: its processes, files, size and schedule, as lines and as a table."""

import math
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import ClusterEnvironment
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.checkpoints import averaging_problems, resume_problems
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import CheckpointError, ConfigError, DataError, LaunchError
from lightning_seg.launch import describe_launch, device_problems, launch_problems
from lightning_seg.models.config import find_config, require_detectron2
from lightning_seg.models.weights import read_checkpoint
from lightning_seg.module import SegmentationModule
from lightning_seg.plan import Plan, make_plan, plan_problems, plan_rows, resolve_processes

_SHARDING = ("fsdp", "deepspeed", "modelparallel")
"""What the names of Lightning's strategies that spread a network over processes contain, but for underscores."""

_LENGTHS = ("total_steps", "total_iters", "T_max")
"""What torch's schedules call the number of steps that they are made for."""


class Preflight:
    """Collects what is wrong with a run, in the order in which it can be known.

    Args:
        command: ``fit`` or another.
        settings: of that command.
        environment: variables of this process.
        first: whether this is the process that writes.
    """

    def __init__(self, command: str, settings: Any, environment: Mapping[str, str], *, first: bool) -> None:
        self.settings = settings
        self.environment = environment
        self.first = first
        self.trains = command == "fit"
        self.dry = self.trains and bool(settings.dry_run)
        self.problems: list[str] = []
        self.checkpoint: Path | None = None
        self.processes = resolve_processes(settings.trainer)

    def check_launch(self) -> None:
        """Whether the processes that were started are those of ``trainer``."""
        if not _has_own_environment(self.settings.trainer):  # which has rules of its own
            self.problems += launch_problems(self.environment, self.processes)
        self.problems += strategy_problems(self.settings.trainer.strategy, compiles=self.settings.model.compile)
        if not self.dry or self.processes.available:  # a login node may lack what the job will have
            self.problems += device_problems(self.environment, self.processes)

    def check_checkpoint(self, resolve: Callable[[], None]) -> None:
        """Whether ``ckpt_path`` can be loaded."""
        try:
            resolve()
        except CheckpointError as error:
            self.problems.append(str(error))
        else:
            self.checkpoint = None if self.settings.ckpt_path is None else Path(self.settings.ckpt_path)

    def check_files(self, folder: Path) -> None:
        """Whether a training has its files, and can write to the run's folder."""
        model = self.settings.model
        if self.first and (problem := folder_problem(folder)):
            self.problems.append(problem)
        if self.settings.ckpt_path is None and (problem := weights_problem(model.weights)):
            self.problems.append(problem)
        require_detectron2()
        try:
            find_config(model.config)
        except ConfigError as error:  # nothing can be built
            raise LaunchError([*self.problems, str(error)]) from None

    def check_callbacks(self, model: SegmentationModule, callbacks: Sequence[pl.Callback]) -> None:
        """Whether weights are averaged as they should be, and the checkpoint's training can go on like this."""
        self.problems += averaging_problems(callbacks)
        if self.checkpoint is not None:
            checkpoint = read_checkpoint(self.checkpoint, f"checkpoint {self.checkpoint}")
            self.problems += resume_problems(checkpoint, model.hparams, callbacks)

    def check_training(
        self, model: SegmentationModule, data: SegmentationDataModule, folder: Path, resumed_step: int | None
    ) -> None:
        """Check what shows once model and data are there; a dry run prints its table.

        Raises:
            LaunchError: with all problems, also those of before.
        """
        plan = make_plan(self.settings.trainer, self.processes, data.batch_size, self._count_samples(data))
        self.problems += training_problems(self.settings, model, plan)
        if self.dry and self.first:
            print_table(table(self.settings, model, plan, folder, resumed_step, self.environment))
        self.refuse()

    def refuse(self) -> None:
        """Raise if anything is wrong."""
        if self.problems:
            raise LaunchError(self.problems)

    def _count_samples(self, data: SegmentationDataModule) -> int | None:
        """None where a machine's first process must still write them."""
        try:
            if self.dry:
                data.prepare_data()
                data.take_quick_look()
            return data.count_training_samples(prepared=self.dry)
        except DataError as error:  # without a dry run, setup says the same after prepare_data
            if self.dry:
                self.problems.append(str(error))
            return None


def training_problems(settings: Any, model: SegmentationModule, plan: Plan) -> list[str]:
    """What shows once model and data are there: weights that the config names, the schedule, a batch without data."""
    problems = plan_problems(plan)
    if settings.model.weights is None and settings.ckpt_path is None:
        problems += [problem for problem in [weights_problem(model.weights)] if problem]
    if settings.trainer.fast_dev_run:
        return problems
    if model.make_lr_scheduler is None:
        return problems + [problem for problem in [model.recipe.schedule_problem()] if problem]
    try:
        scheduler = model.build_lr_scheduler(model.build_optimizer(), plan.total_steps or math.inf)
    except ConfigError as error:
        return [*problems, str(error)]
    return problems + schedule_problems(scheduler, plan.total_steps)


def strategy_problems(strategy: Any, *, compiles: bool) -> list[str]:
    """Whether a strategy spreads the network in a way that checkpoints, evaluation or compiling do not go with."""
    name = str(getattr(strategy, "class_path", strategy))
    if any(kind in name.lower().replace("_", "") for kind in _SHARDING):
        return [
            f"trainer.strategy {name} writes checkpoints of its own kind and would wait for ever where processes have "
            "different numbers of validation batches: use sharded, which is FSDP2 without either"
        ]
    if name == "sharded" and compiles:
        return ["trainer.strategy sharded does not go with model.compile: leave one of them out"]
    return []


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


def _has_own_environment(trainer: Any) -> bool:
    """Whether the settings give a ``ClusterEnvironment``, among the plugins or to a strategy."""
    plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
    kinds = [pkgutil.resolve_name(plugin.class_path) for plugin in plugins if hasattr(plugin, "class_path")]
    of_strategy = getattr(trainer.strategy, "init_args", None) or {}
    return any(issubclass(kind, ClusterEnvironment) for kind in kinds) or bool(of_strategy.get("cluster_environment"))


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
    optimizer = model.build_optimizer(model.lr_scale(plan.global_batch))
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    shown = " and ".join(f"{rate:g}" for rate in rates) if len(rates) < 4 else f"{rates[0]:g} to {rates[-1]:g}"
    scaled = f" ({model.describe_lr_scale(plan.global_batch)})" if model.scale_lr else ""
    schedule = "the config's schedule" if model.make_lr_scheduler is None else "model.lr_scheduler"
    goes_on = "new" if resumed_step is None else f"goes on after step {resumed_step}"
    return [
        ("started by", describe_launch(environment, plan.processes)),
        *plan_rows(plan),
        ("learning rate", f"{shown}{scaled}, {type(optimizer).__name__}, {schedule}"),
        ("precision", str(settings.trainer.precision or "32-true")),
        ("weights", settings.ckpt_path or model.weights or "random"),
        ("run folder", f"{folder}: {goes_on}, {'not writable' if folder_problem(folder) else 'can be written'}"),
        ("loggers", describe_loggers(settings.trainer.logger, environment)),
    ]


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
