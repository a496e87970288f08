"""Finds what is wrong with a run before it starts: each function returns its problems, in terms of the settings."""

import math
import os
import pkgutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import ClusterEnvironment
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.checkpoints.matching import place_of
from lightning_seg.checkpoints.resuming import length_problems
from lightning_seg.config_paths import expanded
from lightning_seg.errors import ConfigError
from lightning_seg.launching.monitors import plateau_problem
from lightning_seg.launching.plan import Plan, plan_problems
from lightning_seg.models.weights import split_query
from lightning_seg.module import SegmentationModule

_SHARDING = ("fsdp", "deepspeed", "modelparallel")
"""What the names of Lightning's sharding strategies contain, without underscores."""

_LENGTHS = ("total_steps", "total_iters", "T_max")
"""Arguments of torch's schedules that say how many steps they are made for."""


def checkpoint_length_problems(checkpoint: Mapping[str, Any], trainer: Any) -> list[str]:
    """Whether a checkpoint is beyond the end of this training."""
    if trainer.fast_dev_run:
        return []
    step, (epochs, batches) = checkpoint.get("global_step", 0), place_of(checkpoint)
    return length_problems(step, epochs + (batches > 0), trainer.max_epochs, trainer.max_steps)


def training_problems(settings: Any, model: SegmentationModule, plan: Plan) -> list[str]:
    """What is wrong with steps and batches, with weights that the config names, and with the schedule."""
    problems = plan_problems(plan, settings.trainer)
    if settings.model.weights is None and settings.ckpt_path is None:
        problems += filter(None, [weights_problem(model.weights)])
    if settings.trainer.fast_dev_run:
        return problems
    optimisation = model.optimisation
    if optimisation.make_lr_scheduler is None:
        return [*problems, *filter(None, [model.recipe.schedule_problem()])]
    try:
        optimizer = optimisation.build_optimizer(model.segmentor)
        scheduler = optimisation.build_lr_scheduler(optimizer, plan.total_steps or math.inf)
    except ConfigError as error:
        return [*problems, str(error)]
    if problem := plateau_problem(scheduler, validation_figures(model, settings)):
        problems.append(problem)
    return problems + schedule_problems(scheduler, plan.total_steps)


def validation_figures(model: SegmentationModule, settings: Any) -> list[str]:
    """Names of what a validation logs; empty if the run has no validation."""
    validates = settings.data.val is not None and settings.trainer.limit_val_batches != 0
    return model.figures("val") if validates else []


def strategy_problems(strategy: Any, *, compiles: bool) -> list[str]:
    """Whether a strategy breaks checkpoints, evaluation or compiling."""
    name = str(getattr(strategy, "class_path", strategy))
    if any(kind in name.lower().replace("_", "") for kind in _SHARDING):
        return [
            f"trainer.strategy {name} writes checkpoints of its own kind, and waits for ever if processes have "
            "different numbers of validation batches: use sharded, which is FSDP2 without these problems"
        ]
    if name == "sharded" and compiles:
        return ["trainer.strategy sharded does not work with model.compile: leave one of them out"]
    return []


def folder_problem(folder: Path) -> str | None:
    """Why nothing can be written to a folder, which need not exist yet. A folder is made there and removed."""
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
    """Whether a file of weights is missing; addresses such as ``https://`` are not checked."""
    if not weights or "://" in weights:
        return None
    if Path(expanded(split_query(weights)[0])).is_file():
        return None
    return f"weights {weights} do not exist: give model.weights another path, or '' for random weights"


def schedule_problems(scheduler: Any, total_steps: float | None) -> list[str]:
    """Whether a user's own schedule is longer than the run. It is stepped after every optimiser step.

    ``OneCycleLR`` must not be shorter, either: it raises past its end.
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


def has_own_environment(trainer: Any) -> bool:
    """Whether the plugins or the strategy have a ``ClusterEnvironment``."""
    plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
    kinds = [pkgutil.resolve_name(plugin.class_path) for plugin in plugins if hasattr(plugin, "class_path")]
    of_strategy = getattr(trainer.strategy, "init_args", None) or {}
    return any(issubclass(kind, ClusterEnvironment) for kind in kinds) or bool(of_strategy.get("cluster_environment"))


def _ends(scheduler: Any, start: int = 0) -> Iterator[tuple[str, int, bool]]:
    """Each part of one of torch's schedules: its name, its last step, and whether it raises after that."""
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
