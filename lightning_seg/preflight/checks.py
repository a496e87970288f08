"""Whether a run can work, before it starts: its processes, files, data, weights, size and schedule."""

import math
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from lightning_fabric.plugins import ClusterEnvironment
from pytorch_lightning.utilities import rank_zero_info
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.checkpoints.matching import (
    averaging_problems,
    callback_problems,
    place_of,
    refuse_other_model,
    resume_problems,
)
from lightning_seg.checkpoints.resuming import length_problems, settings_changes, settings_problems
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import BusyError, CheckpointError, ConfigError, LaunchError, LightningSegError
from lightning_seg.launching.monitors import mode_problems, name_problems, plateau_problem
from lightning_seg.launching.plan import (
    Plan,
    accumulation_problem,
    changing_accumulation,
    make_plan,
    plan_problems,
    resolve_processes,
)
from lightning_seg.launching.starters import device_problems, launch_problems
from lightning_seg.models.config import find_config, require_detectron2
from lightning_seg.models.weights import read_checkpoint, split_query
from lightning_seg.module import SegmentationModule
from lightning_seg.preflight.table import model_rows, print_table, run_rows

_SHARDING = ("fsdp", "deepspeed", "modelparallel")
"""What the names of Lightning's strategies that spread a network over processes contain, but for underscores."""

_LENGTHS = ("total_steps", "total_iters", "T_max")
"""What torch's schedules call the number of steps that they are made for."""

Result = TypeVar("Result")


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
        self._callbacks: Sequence[pl.Callback] = ()
        self._stored: dict[str, Any] = {}
        self._samples: dict[str, int | None] = {}
        self.processes = resolve_processes(settings.trainer)

    def check_launch(self) -> None:
        """Whether the processes that were started are those of ``trainer``.

        Raises:
            LaunchError: if there are none.
        """
        if self.processes.count < 1:
            raise LaunchError([f"{self.processes} processes: both must be at least 1"])
        if not _has_own_environment(self.settings.trainer):  # which has rules of its own
            self.problems += launch_problems(self.environment, self.processes)
        self.problems += strategy_problems(self.settings.trainer.strategy, compiles=self.settings.model.compile)
        if not self.dry or self.processes.available:  # a login node may lack what the job will have
            self.problems += device_problems(self.environment, self.processes)

    def check_checkpoint(self, resolve: Callable[[], None]) -> None:
        """Whether ``ckpt_path`` can be loaded, and its run is free to go on."""
        try:
            resolve()
        except (BusyError, CheckpointError) as error:
            self.problems.append(str(error))
        else:
            self.checkpoint = None if self.settings.ckpt_path is None else Path(self.settings.ckpt_path)

    def check_folder(self, folder: Path) -> None:
        """Whether the run's folder can be written to."""
        if self.first and (problem := folder_problem(folder)):
            self.problems.append(problem)

    def check_files(self) -> None:
        """Whether a training has its files."""
        model = self.settings.model
        if self.settings.ckpt_path is None and (problem := weights_problem(model.weights)):
            self.problems.append(problem)
        require_detectron2()
        try:
            find_config(model.config)
        except ConfigError as error:  # nothing can be built
            raise LaunchError([*self.problems, str(error)]) from None

    def check_callbacks(self, model: SegmentationModule, callbacks: Sequence[pl.Callback]) -> None:
        """Whether weights are averaged as they should be, and the checkpoint's training can go on like this.

        Raises:
            CheckpointError: if it is of another model.
        """
        self._callbacks = callbacks
        self.problems += callback_problems(callbacks)
        self.problems += averaging_problems(callbacks, self.settings.trainer.precision) + mode_problems(callbacks)
        self.problems += name_problems(callbacks, validation_figures(model, self.settings))
        accumulate = self.settings.trainer.accumulate_grad_batches
        factors = changing_accumulation(callbacks)
        if problem := accumulation_problem(factors, accumulate, scales=model.scale_lr):
            self.problems.append(problem)
        if self.checkpoint is not None:
            checkpoint = read_checkpoint(self.checkpoint, f"checkpoint {self.checkpoint}")
            self.problems += resume_problems(checkpoint, model.hparams, callbacks)
            self.problems += settings_problems(checkpoint.get("settings", {}), model.run_settings)
            self.problems += _length_problems(checkpoint, self.settings.trainer)
            self._stored = {name: part for name, part in checkpoint.items() if name != "state_dict"}
            self.attempt(partial(refuse_other_model, model.state_dict(), checkpoint["state_dict"]))

    def check_training(
        self, model: SegmentationModule, data: SegmentationDataModule, folder: Path, resumed_step: int | None
    ) -> None:
        """Check what shows once model and data are there; a dry run prints its table.

        Raises:
            LaunchError: with all problems, also those of before.
        """
        if self.dry:
            self._find_defects(data)
        elif not any(reader is not None and reader.prepares for reader in data.readers.values()):
            self._count(data)
        plan = make_plan(
            self.settings.trainer, self.processes, data.batch_size, self._samples.get("train"), self._callbacks
        )
        self.problems += training_problems(self.settings, model, plan)
        self._compare_training(model, data, plan)
        changes = settings_changes(self._stored.get("settings", {}), model.run_settings)
        if changes and not self.dry:
            rank_zero_info(f"The checkpoint's run had other settings; from here on: {'; '.join(changes)}")
        if self.dry:
            self._find_weights(model)
            if self.first:
                writable = not folder_problem(folder)
                print_table(
                    [
                        *run_rows(self.settings, model, plan, folder, resumed_step, writable, self.environment),
                        *model_rows(model, data.class_names),
                        ("validation data", self._describe_validation(data)),
                        *[("other than before", change) for change in changes],
                    ]
                )
        self.refuse()

    def _compare_training(self, model: SegmentationModule, data: SegmentationDataModule, plan: Plan) -> None:
        """Whether optimiser, schedule and, in a dry run, the order of an epoch go on from the checkpoint."""
        before = self._stored.get("training")
        if before is not None and not self.problems:
            steps = math.inf if plan.total_steps is None else plan.total_steps
            self.attempt(partial(model.refuse_other_training, before, model.lr_scale(plan.global_batch), steps))
        if data.datasets and (state := self._stored.get(type(data).__qualname__)):
            data.load_state_dict(state)
            self.problems += data.order_problems(inside=place_of(self._stored)[1] > 0)

    def refuse(self) -> None:
        """Raise if anything is wrong."""
        if self.problems:
            raise LaunchError(self.problems)

    def _find_defects(self, data: SegmentationDataModule) -> None:
        """What ``fit`` does with its data before the first batch, with every mistake that shows."""
        found = len(self.problems)
        for part in ("train", "val"):
            self.attempt(partial(data.try_transforms, part))
        transforms_fit = len(self.problems) == found
        before = len(self.problems)
        self.attempt(data.prepare_data)
        if len(self.problems) > before:
            return
        self.attempt(data.take_quick_look)
        self._count(data)
        if transforms_fit and len(self.problems) == found:
            self.attempt(partial(data.setup, "fit"))

    def _count(self, data: SegmentationDataModule) -> None:
        """List the samples, once their readers have written what they write."""
        found = len(self.problems)
        self.attempt(data.listings.refuse_missing_root)
        if len(self.problems) > found:
            return
        for part in ("train", "val"):
            self._samples[part] = self.attempt(partial(data.count_samples, part))

    def _find_weights(self, model: SegmentationModule) -> None:
        """Load the weights that a new run would begin with, as it does."""
        if self.settings.ckpt_path is not None:
            return
        if not weights_problem(model.weights):
            self.attempt(model.load_pretrained)
        if not model.weights and (problem := model.frozen_random()):
            self.problems.append(problem)

    def _describe_validation(self, data: SegmentationDataModule) -> str:
        if data.readers["val"] is None:
            return "none: no figure says which checkpoint is the best"
        count = self._samples.get("val")
        return "cannot be listed" if count is None else f"{count} samples"

    def attempt(self, check: Callable[[], Result]) -> Result | None:
        """What a check gives; None where it raises, which is kept."""
        try:
            return check()
        except LightningSegError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return None


def _length_problems(checkpoint: Mapping[str, Any], trainer: Any) -> list[str]:
    """Whether a checkpoint is further than the trainer goes."""
    if trainer.fast_dev_run:
        return []
    step, (epochs, batches) = checkpoint.get("global_step", 0), place_of(checkpoint)
    return length_problems(step, epochs + (batches > 0), trainer.max_epochs, trainer.max_steps)


def training_problems(settings: Any, model: SegmentationModule, plan: Plan) -> list[str]:
    """What shows once model and data are there: weights that the config names, the schedule, a batch without data."""
    problems = plan_problems(plan, settings.trainer)
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
    if problem := plateau_problem(scheduler, validation_figures(model, settings)):
        problems.append(problem)
    return problems + schedule_problems(scheduler, plan.total_steps)


def validation_figures(model: SegmentationModule, settings: Any) -> list[str]:
    """Names of what a validation logs; none where there is none."""
    validates = settings.data.val is not None and settings.trainer.limit_val_batches != 0
    return model.figures("val") if validates else []


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
    if not weights or "://" in weights:
        return None
    if Path(os.path.expandvars(split_query(weights)[0])).expanduser().is_file():
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
