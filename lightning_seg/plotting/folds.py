"""Sums up the runs of a cross-validation: mean and spread of each figure over its folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from lightning_seg.errors import ConfigError
from lightning_seg.plotting.runs import Run


@dataclass(frozen=True)
class Folds:
    """The figures of runs that differ in their fold.

    Attributes:
        title: which split and which folds.
        figures: mIoU, and the IoU of each class, in the order of the folds; None where a fold has no pixel of it.
    """

    title: str
    figures: dict[str, list[float | None]]

    def rows(self) -> list[tuple[str, str, str]]:
        """Of each figure: its name, mean ± standard deviation (of a sample, n − 1), and lowest to highest."""
        return [(name, *_summary(values)) for name, values in self.figures.items()]

    def __str__(self) -> str:
        rows = [("", "mean ± std", "lowest to highest"), *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *lines])


def folds_of(runs: Sequence[Run]) -> Folds | None:
    """The folds of a cross-validation; None if runs are of something else, or there is only one.

    Raises:
        ConfigError: if they are of folds, but their figures do not belong together.
    """
    if len(runs) < 2 or any(_fold(run) is None for run in runs):
        return None
    by_fold: dict[int, Run] = {}
    for run in (run for run in runs if run.metrics):
        if (other := by_fold.setdefault(_fold(run), run)) is not run:  # type: ignore[arg-type]  # each has one
            raise ConfigError(f"{other.name} and {run.name} are both of fold {_fold(run)}: name one run of each fold")
    if len(by_fold) < 2:
        return None
    chosen = [by_fold[fold] for fold in sorted(by_fold)]
    splits = sorted({run.metrics["split"] for run in chosen})
    if len(splits) > 1:
        raise ConfigError(f"the runs were evaluated on {' and on '.join(splits)}: evaluate all on one split")
    classes = list(dict.fromkeys(name for run in chosen for name in run.metrics["IoU"]))
    title = f"{splits[0]} over folds {', '.join(map(str, sorted(by_fold)))}"
    number = _setting(chosen[0], "folds")
    if isinstance(number, int):
        title += f" of {number}"
        if absent := sorted(set(range(number)) - set(by_fold)):
            title += f"; no evaluated run of fold {', '.join(map(str, absent))}"
    figures = {"mIoU": [run.metrics["mIoU"] for run in chosen]}
    return Folds(title, figures | {name: [run.metrics["IoU"].get(name) for run in chosen] for name in classes})


def _fold(run: Run) -> int | None:
    """The fold that a run is of: ``data.fold``, or that of its readers."""
    common = (run.settings or {}).get("data.fold")
    fold = _setting(run, "fold") if common is None else common
    return fold if isinstance(fold, int) else None


def _setting(run: Run, name: str) -> Any:
    """The value that all readers have of a setting; None if they differ."""
    settings = run.settings or {}
    values = {
        str(value): value
        for key, value in settings.items()
        if key.startswith(("data.train.", "data.val.")) and key.endswith(f".{name}") and value is not None
    }
    return next(iter(values.values())) if len(values) == 1 else None


def _summary(values: Sequence[float | None]) -> tuple[str, str]:
    known = [value for value in values if value is not None]
    if not known:
        return "–", "no pixels"
    spread = f" ± {stdev(known):.4f}" if len(known) > 1 else ""
    over = f" in {len(known)} of {len(values)}" if len(known) < len(values) else ""
    return f"{mean(known):.4f}{spread}", f"{min(known):.4f} to {max(known):.4f}{over}"
