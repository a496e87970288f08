"""Finds evaluations of trainings that differ in their seed alone, and sums up their mIoU."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lightning_seg.errors import ConfigError
from lightning_seg.metrics.comparison import mean_interval
from lightning_seg.plotting.runs import Run, read_run


@dataclass(frozen=True)
class Side:
    """Evaluations of one configuration: one, or several whose trainings had different seeds."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The first run's, and how many seeds there are if there are several."""
        return self.runs[0].name + (f" ({len(self.runs)} seeds)" if len(self.runs) > 1 else "")

    @property
    def values(self) -> list[float]:
        """The mIoU of each run, 0 to 1."""
        return [run.metrics["mIoU"] for run in self.runs]

    def __str__(self) -> str:
        low, high = (100 * end for end in mean_interval(self.values))
        mean, spread = 100 * fmean(self.values), 100 * stdev(self.values)
        return (
            f"{self.name}: mIoU {mean:.2f}, standard deviation {spread:.2f}, 95 % interval of the mean {low:.2f} to "
            f"{high:.2f} ({', '.join(run.name for run in self.runs)})"
        )

    def as_json(self) -> dict[str, Any]:
        """In plain values for ``comparison.json``, fractions of 1."""
        low, high = mean_interval(self.values)
        figures = {
            "values": self.values,
            "mean": fmean(self.values),
            "sd": stdev(self.values),
            "low": low,
            "high": high,
        }
        return {"name": self.name, "runs": [run.name for run in self.runs], "mIoU": figures}


def sides_of(runs: Sequence[Run]) -> list[Side]:
    """The evaluated runs by their configuration, in the order of each one's first run.

    Runs are of one configuration if the settings of the evaluations are equal, and those of the trainings whose
    checkpoints they took, but for the seed and what changes no result; if they evaluated the same true pixels; and if
    the seeds differ. A run whose training is not found stands alone, and so do all of equal seeds or weights.
    """
    found: dict[str, list[tuple[Run, int]]] = {}
    for run in (run for run in runs if run.metrics):
        key, seed = _configuration(run) or (f"alone {run.name}", 0)
        found.setdefault(key, []).append((run, seed))
    sides = []
    for some in found.values():
        digests = [(run.metrics.get("weights") or {}).get("sha256", run.name) for run, _ in some]
        apart = len({seed for _, seed in some}) == len(set(digests)) == len(some)
        each = [run for run, _ in some]
        sides += [Side(tuple(each))] if apart else [Side((run,)) for run in each]
    order = [run.name for run in runs]
    return sorted(sides, key=lambda side: order.index(side.runs[0].name))


def _configuration(run: Run) -> tuple[str, int] | None:
    """What must be equal, as text, and the seed of the training; None if the training is not found."""
    from lightning_seg.checkpoints.resuming import ASIDE

    training = _training(run)
    if training is None or training.settings is None or run.settings is None or run.metrics["mIoU"] is None:
        return None
    seed = training.settings.get("seed_everything")
    if not isinstance(seed, int) or isinstance(seed, bool):
        return None
    aside = tuple(name for name in ASIDE if name != "trainer.fast_dev_run")

    def kept(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if not name.startswith((*aside, *names))}

    weights = run.metrics.get("weights") or {}
    file = Path(weights.get("path", "")).name
    step = None if "best" in file else weights.get("global_step")
    true = [sum(row) for row in run.metrics["confusion_matrix"]]
    parts = (kept(run.settings, "ckpt_path"), kept(training.settings), re.sub(r"\d+", "#", file), step)
    return json.dumps([*parts, run.metrics["split"], true], sort_keys=True, default=str), seed


def _training(run: Run) -> Run | None:
    """The run that trained the weights: of the folder of the checkpoint, or the run itself."""
    weights = run.metrics.get("weights") or {}
    if run.trained:
        return run
    if weights.get("source") != "checkpoint" or "path" not in weights:
        return None
    try:
        found = read_run(Path(weights["path"]).parent.parent)
    except ConfigError:
        return None
    return found if found.trained else None
