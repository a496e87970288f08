"""Checks that callbacks and schedules watch a figure that is logged, and prefer its better values."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_seg.errors import ConfigError
from lightning_seg.hints import did_you_mean

_OF_TRAINING = ("train/", "lr/", "perf/", "data/")
"""How the names of figures begin that a training logs."""

_COUNTERS = ("epoch", "step")
"""What Lightning's ``ModelCheckpoint`` can monitor although nothing logs it."""


def better_mode(name: str) -> str | None:
    """``min`` or ``max``: which values of a figure that this project logs are the better ones; None if neither is.

    >>> better_mode("val/loss"), better_mode("val/ECE"), better_mode("val/IoU/house"), better_mode("lr/0")
    ('min', 'min', 'max', None)
    """
    split, _, figure = name.partition("/")
    if figure.startswith("loss") or figure == "ECE":
        return "min"
    return "max" if split in ("val", "test") and figure else None


def monitored(scheduler: ReduceLROnPlateau) -> str:
    """The figure that a schedule is stepped on: its ``monitor``, which Lightning's class has, else ``val/loss``."""
    return str(getattr(scheduler, "monitor", None) or "val/loss")


def plateau_problem(scheduler: Any, figures: Sequence[str]) -> str | None:
    """Why a ``ReduceLROnPlateau`` cannot work: no validation logs its figure, or it prefers the worse values.

    Args:
        scheduler: of any kind; another kind has no problem.
        figures: names that the validation logs.
    """
    if not isinstance(scheduler, ReduceLROnPlateau):
        return None
    name, kind = monitored(scheduler), "model.lr_scheduler: ReduceLROnPlateau"
    if not figures:
        return f"{kind} is stepped after each validation, but there is none: give data.val, or another schedule"
    if name not in figures:
        return f"{kind} monitors {name!r}, which no validation logs{did_you_mean(name, figures)}"
    if contradicts(name, scheduler.mode):
        remedy = f"set mode: {better_mode(name)}"
        if not hasattr(scheduler, "monitor"):
            remedy += ", or give pytorch_lightning.cli.ReduceLROnPlateau, which takes a monitor such as val/mIoU"
        return (
            f"{kind} has mode {scheduler.mode}, but is stepped on {name}, which is better the {_word(name)}: {remedy}"
        )
    return None


def schedule_settings(scheduler: LRScheduler, figures: Sequence[str]) -> dict[str, Any]:
    """A schedule as ``configure_optimizers`` returns it: stepped after every optimiser step, or on a figure.

    Args:
        scheduler: of any kind.
        figures: names that the validation logs.

    Raises:
        ConfigError: if a ``ReduceLROnPlateau`` cannot go by any of the figures.
    """
    if problem := plateau_problem(scheduler, figures):
        raise ConfigError(problem)
    if isinstance(scheduler, ReduceLROnPlateau):
        return {"scheduler": scheduler, "monitor": monitored(scheduler), "strict": False}
    return {"scheduler": scheduler, "interval": "step"}


def step_on_plateau(trainer: pl.Trainer, figures: Mapping[str, Any]) -> None:
    """Step each ``ReduceLROnPlateau`` of a trainer on its figure, after a validation that logged ``figures``."""
    for settings in trainer.lr_scheduler_configs:
        if isinstance(settings.scheduler, ReduceLROnPlateau):
            settings.scheduler.step(float(figures[monitored(settings.scheduler)]))


def name_problems(callbacks: Sequence[pl.Callback], figures: Sequence[str]) -> list[str]:
    """Which of Lightning's callbacks wait for a figure that nothing logs. They would fail after an epoch.

    Args:
        callbacks: of the trainer.
        figures: names that the validation logs.
    """
    known_packages = ("pytorch_lightning.", "lightning_seg.")
    if not all(type(callback).__module__.startswith(known_packages) for callback in callbacks):
        return []  # a user's own callback may log it
    problems = []
    for callback in callbacks:
        name, kind = getattr(callback, "monitor", None), type(callback).__name__
        if name is None or name in figures or str(name).startswith(_OF_TRAINING):
            continue
        if isinstance(callback, ModelCheckpoint) and name in _COUNTERS:
            continue
        hint = did_you_mean(str(name), figures) if figures else " without a validation"
        problems.append(f"trainer.callbacks: {kind} monitors {name!r}, which is never logged{hint}")
    return problems


def mode_problems(callbacks: Sequence[pl.Callback], figures: Sequence[str]) -> list[str]:
    """Which callbacks prefer the worse values of their figure; of a user's own figure nobody knows.

    Args:
        callbacks: of the trainer.
        figures: names that the validation logs.
    """
    return [
        f"trainer.callbacks: {type(callback).__name__} has mode {callback.mode}, but monitors {callback.monitor}, "
        f"which is better the {_word(callback.monitor)}: set mode: {better_mode(callback.monitor)}"
        for callback in callbacks
        if isinstance(callback, EarlyStopping | ModelCheckpoint)
        and callback.monitor is not None
        and (callback.monitor in figures or callback.monitor.startswith(_OF_TRAINING))
        and contradicts(callback.monitor, callback.mode)
    ]


def contradicts(name: str, mode: str) -> bool:
    """Whether a mode prefers the worse values of a figure."""
    return better_mode(name) not in (None, mode)


def _word(name: str) -> str:
    return "higher" if better_mode(name) == "max" else "lower"
