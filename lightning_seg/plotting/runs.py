"""Reads the files of a run folder: curves, the last evaluation, settings and pictures."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from lightning_seg.errors import ConfigError
from lightning_seg.plotting.figures_file import read_figures
from lightning_seg.structures import over_classes

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Run:
    """The contents of one run folder.

    Attributes:
        name: the last parts of its path, at least two, and as many as tell it from the other runs.
        folder: its path.
        curves: (step, value) pairs by logged name.
        metrics: the contents of ``metrics.json``; empty if no evaluation ended.
        settings: of ``config.yaml``, by dotted key; None if that file is missing.
    """

    name: str
    folder: Path
    curves: dict[str, Points] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] | None = None

    @property
    def trained(self) -> bool:
        """Whether this is a training; the curves of an evaluation have one point, at step 0."""
        return "train/loss" in self.curves or (self.folder / "checkpoints").is_dir()

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of a training's highest ``val/mIoU``, the first of equal ones; None if it logged none."""
        points = self._validations()
        return max(points, key=lambda point: point[1]) if points else None

    @property
    def last(self) -> tuple[int, float] | None:
        """Step and value of a training's last ``val/mIoU``."""
        points = self._validations()
        return points[-1] if points else None

    @property
    def over_classes(self) -> str:
        """Over how many classes its mIoU is; empty if it is over all."""
        figures = self.metrics["IoU"].values()
        return over_classes(sum(value is not None for value in figures), len(figures))

    @property
    def evaluated(self) -> str:
        """Which weights were evaluated last, in words; "–" if ``metrics.json`` does not say."""
        weights = self.metrics.get("weights") or {}
        parts = [Path(weights["path"]).name] if "path" in weights else []
        parts += [f"after {weights['global_step']} steps"] if "global_step" in weights else []
        return ", ".join(parts) or "–"

    @property
    def grid(self) -> Path | None:
        """``predictions.png``, some evaluated images beside truth and prediction."""
        file = self.folder / "predictions.png"
        return file if file.is_file() else None

    @property
    def overlays(self) -> dict[str, Path]:
        """The overlays that ``predict`` wrote, by the name of the image."""
        folder = self.folder / "predictions" / "overlays"
        return {str(file.relative_to(folder).with_suffix("")): file for file in sorted(folder.rglob("*.jpg"))}

    def _validations(self) -> Points:
        points = self.curves.get("val/mIoU", []) if self.trained else []
        return [point for point in points if not math.isnan(point[1])]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ConfigError: if it is no run folder, or one of its files is not that of a run.
    """
    table, figures, config = (folder / name for name in ("metrics.csv", "metrics.json", "config.yaml"))
    try:
        run = Run(
            _name(folder.resolve().parts[-2:]),
            folder,
            _read_curves(table) if table.is_file() else {},
            read_figures(figures) if figures.is_file() else {},
            _read_settings(config) if config.is_file() else None,
        )
        known = table.is_file() or run.metrics or run.overlays
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be read ({error.strerror})") from None
    if not known:
        raise ConfigError(f"{folder} is no run: neither metrics.csv nor metrics.json nor predictions/ is there")
    return run


def with_distinct_names(runs: Sequence[Run]) -> list[Run]:
    """Make the names of runs distinct: equal names get more parts of their paths."""
    parts = [run.folder.resolve().parts for run in runs]
    lengths = [2] * len(runs)
    for number, path in enumerate(parts):
        others = [other for other in parts if other != path]
        while lengths[number] < len(path) and any(
            other[-lengths[number] :] == path[-lengths[number] :] for other in others
        ):
            lengths[number] += 1
    return [replace(run, name=_name(path[-length:])) for run, path, length in zip(runs, parts, lengths, strict=True)]


def _name(parts: Sequence[str]) -> str:
    """The name of a run that has these folders; what is no valid text in them could not be drawn."""
    return "/".join(parts).encode(errors="replace").decode()


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that differ between runs: key, and the value in each run as text; "–" if a run lacks the key."""
    known = [run.settings or {} for run in runs]
    keys = [*dict.fromkeys(key for settings in known for key in settings)]
    for parts in (3, 2, 1):  # those of one group stand together, in the order of the first of each
        groups = [*dict.fromkeys(tuple(key.split(".")[:parts]) for key in keys)]
        place = {group: number for number, group in enumerate(groups)}
        keys.sort(key=lambda key: place[tuple(key.split(".")[:parts])])
    rows = {key: [_as_text(settings[key]) if key in settings else "–" for settings in known] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def _read_settings(config: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(config.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{config} is not the config.yaml of a run ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{config} is not the config.yaml of a run: it holds no settings")
    return dict(_flat(content))


def _flat(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Settings by dotted key, as a flag names them; an item of a list of classes has its place in the key."""
    if isinstance(value, dict) and value:
        children = [(str(name), child) for name, child in value.items()]
    elif isinstance(value, list) and any(isinstance(child, dict) for child in value):
        children = [(str(place), child) for place, child in enumerate(value)]
    else:
        return [(key, value)]
    found = []
    for name, child in children:
        of_class = name == "init_args" and "class_path" in value
        found += _flat(child, key if of_class else f"{key}.{name}" if key else name)
    return found


def _read_curves(table: Path) -> dict[str, Points]:
    """Points by name, without a last row that a kill has torn."""
    curves: dict[str, Points] = {}
    try:
        lines = table.read_bytes().decode().splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))
        for row in rows:
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    curves.setdefault(name, []).append((int(row["step"]), float(value)))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(f"{table} is not the metrics.csv of a run ({type(error).__name__}: {error})") from None
    return curves
