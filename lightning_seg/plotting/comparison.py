"""Says whether one run is better than another that evaluated the same images, in words, as JSON and for the page."""

import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.metrics import comparison as statistics
from lightning_seg.metrics.comparison import Totals
from lightning_seg.metrics.functional import AbsentClasses, iou_of_totals
from lightning_seg.plotting.runs import Run

SHOWN = 8
"""How many images are listed on which two runs differ most."""

_COUNTS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Evaluated:
    """What ``images.npz`` of a run says: names of N images and K classes, and totals (N, K)."""

    run: Run
    names: list[str]
    class_names: list[str]
    totals: Totals

    @property
    def absent_classes(self) -> AbsentClasses:
        """The averaging rule of the evaluation."""
        rule: AbsentClasses = self.run.metrics.get("absent_classes", "detectron2")
        return rule


@dataclass(frozen=True)
class Compared:
    """Two runs and the intervals of their difference; ``images`` are those on which their own mIoU differs most."""

    first: str
    second: str
    classes: list[str]
    figures: statistics.Comparison
    counted: str
    images: list[tuple[str, float, float]]

    @property
    def winner(self) -> str | None:
        """The run whose mIoU is higher, if the interval of the difference does not hold zero."""
        low, high = self.figures.low[0], self.figures.high[0]
        return self.second if low > 0 else self.first if high < 0 else None

    def __str__(self) -> str:
        ends = [100 * value[0].item() for value in (self.figures.difference, self.figures.low, self.figures.high)]
        if self.winner is None:
            return (
                f"No difference can be told between {self.first} and {self.second}: {ends[0]:+.1f} points of mIoU "
                f"({ends[1]:+.1f} to {ends[2]:+.1f}) on {self.counted}"
            )
        low, points, high = sorted(map(abs, ends))
        digits = 1 if round(low, 1) else 3
        other = self.first if self.winner == self.second else self.second
        return (
            f"{self.winner} is better than {other} by {points:.{digits}f} points of mIoU "
            f"({low:.{digits}f} to {high:.{digits}f}) on {self.counted}"
        )

    def rows(self) -> list[tuple[str, list[float | None]]]:
        """Of mIoU, fwIoU and each class: both figures, their difference and its interval; None where there is none."""
        found = self.figures
        columns = (found.first, found.second, found.difference, found.low, found.high)
        values = torch.stack(columns, 1).tolist()
        names = ["mIoU", "fwIoU", *self.classes]
        return [
            (name, [None if math.isnan(value) else value for value in row])
            for name, row in zip(names, values, strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        """In plain values for ``comparison.json``."""
        keys = ("first", "second", "difference", "low", "high")
        rows = [(name, dict(zip(keys, row, strict=True))) for name, row in self.rows()]
        return {
            "first": self.first,
            "second": self.second,
            "sentence": str(self),
            "winner": self.winner,
            **dict(rows[:2]),
            "IoU": dict(rows[2:]),
            "most_different_images": [
                {"name": name, "first": first, "second": second} for name, first, second in self.images
            ],
        }


def compare_runs(runs: Sequence[Run], group_by: str | None = None) -> list[Compared]:
    """Compare the first of the evaluated runs with each other one.

    Args:
        runs: those without an evaluation are left out.
        group_by: a regular expression whose first group names the scene of an image; scenes are drawn, not images.

    Raises:
        ConfigError: if they cannot be compared: the message names the image, class or file.
    """
    evaluated = [run for run in runs if run.metrics]
    if len(evaluated) < 2:
        return []
    first = read_evaluated(evaluated[0])
    units, what = _units(first.names, group_by)
    if what < statistics.MIN_UNITS:
        raise ConfigError(
            f"{what} {'scenes' if group_by else 'images'} are too few for an interval: at least "
            f"{statistics.MIN_UNITS} are needed"
        )
    counted = f"{len(first.names)} images" + (f" of {what} scenes" if group_by else "")
    found = []
    for run in evaluated[1:]:
        other = _aligned(first, read_evaluated(run))
        figures = statistics.compare([first.totals.by_unit(units)], [other.totals.by_unit(units)], first.absent_classes)
        images = _most_different(first, other)
        found.append(Compared(first.run.name, run.name, first.class_names, figures, counted, images))
    return found


def read_evaluated(run: Run) -> Evaluated:
    """Read ``images.npz``; never are all its matrices in memory.

    Raises:
        ConfigError: if it is missing, damaged, or of another evaluation than ``metrics.json``.
    """
    file = run.folder / "images.npz"
    if not file.is_file():
        raise ConfigError(f"{run.folder} has no images.npz: run `train.py validate` or `test` with its checkpoint")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            names, classes = arrays["names"].tolist(), arrays["class_names"].tolist()
        totals = _read_totals(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} is not the images.npz of a run ({type(error).__name__}: {error})") from None
    counts = torch.tensor(run.metrics["confusion_matrix"])
    expected = (counts.diagonal(), counts.sum(1), counts.sum(0))
    sums = (totals.hits.sum(0), totals.true.sum(0), totals.predicted.sum(0))
    if len(names) != len(totals.true) or not all(map(torch.equal, sums, expected)):
        raise ConfigError(f"{file} and metrics.json beside it are of different evaluations: evaluate the run again")
    return Evaluated(run, names, classes, totals)


def _read_totals(file: Path) -> Totals:
    with zipfile.ZipFile(file) as archive, archive.open("matrices.npy") as member:
        np.lib.format.read_magic(member)
        (images, classes, _), _, kind = np.lib.format.read_array_header_1_0(member)
        step = max(1, _COUNTS_AT_ONCE // classes**2)
        parts = [Totals.of_matrices(torch.zeros(0, classes, classes, dtype=torch.int64))]
        for first in range(0, images, step):
            some = min(step, images - first)
            read = np.frombuffer(member.read(some * classes**2 * kind.itemsize), kind)
            matrices = read.reshape(some, classes, classes).astype(np.int64)
            parts.append(Totals.of_matrices(torch.from_numpy(matrices)))
    return Totals(*(torch.cat([getattr(part, name) for part in parts]) for name in ("hits", "true", "predicted")))


def _aligned(first: Evaluated, other: Evaluated) -> Evaluated:
    """The other evaluation in the order of the first one's images; refused if they are not of the same data."""
    both = f"{first.run.name} and {other.run.name} cannot be compared"
    if first.class_names != other.class_names:
        raise ConfigError(f"{both}: their classes are {first.class_names} and {other.class_names}")
    if first.absent_classes != other.absent_classes:
        raise ConfigError(f"{both}: model.absent_classes is {first.absent_classes} and {other.absent_classes}")
    for one, another in ((first, other), (other, first)):
        if lacking := sorted(set(one.names) - set(another.names)):
            raise ConfigError(
                f"{both}: {len(lacking)} images of {one.run.name}, such as {lacking[0]}, are not in "
                f"{another.run.name}: evaluate both on the same split, without limits"
            )
    if first.names != other.names:
        if len(set(first.names)) < len(first.names):
            raise ConfigError(f"{both}: several images have one name, and their order differs")
        places = {name: place for place, name in enumerate(other.names)}
        order = torch.tensor([places[name] for name in first.names])
        moved = Totals(*(part[order] for part in (other.totals.hits, other.totals.true, other.totals.predicted)))
        other = Evaluated(other.run, first.names, other.class_names, moved)
    differing = (first.totals.true != other.totals.true).nonzero()
    if len(differing):
        image, index = differing[0].tolist()
        counts = (first.totals.true[image, index].item(), other.totals.true[image, index].item())
        raise ConfigError(
            f"{both}: {first.names[image]} has {counts[0]} true pixels of {first.class_names[index]} in the one and "
            f"{counts[1]} in the other, and {len(set(differing[:, 0].tolist()))} images differ so: evaluate both with "
            "the same masks, data.label_map and data.ignore_index"
        )
    return other


def _units(names: Sequence[str], group_by: str | None) -> tuple[Tensor, int]:
    """The unit of each image, (N,) int64, and how many there are."""
    if group_by is None:
        return torch.arange(len(names)), len(names)
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"--group_by {group_by!r} is no regular expression: {error}") from None
    examples = ", ".join(names[:3])
    if not pattern.groups:
        raise ConfigError(f"--group_by {group_by!r} has no group (…) that names the scene; images are {examples}")
    found = [pattern.search(name) for name in names]
    scenes = [None if match is None else match[1] for match in found]
    if None in scenes:
        lacking = [name for name, scene in zip(names, scenes, strict=True) if scene is None]
        raise ConfigError(
            f"--group_by {group_by!r} finds no scene in {len(lacking)} of {len(names)} images, such as "
            f"{', '.join(lacking[:3])}"
        )
    numbers = {scene: number for number, scene in enumerate(dict.fromkeys(scenes))}
    if len(numbers) < statistics.MIN_UNITS:
        raise ConfigError(
            f"--group_by {group_by!r} finds {len(numbers)} scenes ({', '.join(map(str, numbers))}) in {examples}, …: "
            f"an interval needs at least {statistics.MIN_UNITS}"
        )
    return torch.tensor([numbers[scene] for scene in scenes]), len(numbers)


def _most_different(first: Evaluated, other: Evaluated) -> list[tuple[str, float, float]]:
    each = [
        iou_of_totals(side.hits.double(), side.true.double(), side.predicted.double(), first.absent_classes).nanmean(1)
        for side in (first.totals, other.totals)
    ]
    order = (each[1] - each[0]).abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:SHOWN].tolist()
    return [(first.names[place], each[0][place].item(), each[1][place].item()) for place in order]


def comparison_section(compared: Sequence[Compared], refused: str, names: Mapping[str, str]) -> str:
    """The part of the page: sentences, a table of intervals, and the images on which the runs differ most."""
    if refused:
        return f"<h2>Is one better?</h2><p>Not compared: {escape(refused)}.</p>"
    parts = []
    for pair in compared:
        rows = ""
        for name, values in pair.rows():
            bold = "" if values[3] is None or values[3] <= 0 <= (values[4] or 0) else " top"
            shown = [_points(value, signed=place > 1) for place, value in enumerate(values)]
            span = "too few images" if values[3] is None else f"{shown[3]} to {shown[4]}"
            cells = "".join(f"<td class=number>{value}</td>" for value in shown[:2])
            rows += f"<tr><td>{escape(name)}</td>{cells}<td class='number{bold}'>{shown[2]}</td>"
            rows += f"<td class=number>{span}</td></tr>"
        heads = f"<th>points</th><th>{names[pair.first]}</th><th>{names[pair.second]}</th><th>difference</th>"
        parts.append(
            f"<p><b>{escape(str(pair))}.</b></p><div class=wide><table><thead><tr>{heads}<th>95 % interval</th></tr>"
            f"</thead><tbody>{rows}</tbody></table></div><h3>Images on which they differ most (own mIoU)</h3>"
            f"<div class=wide><table><thead><tr>{heads.replace('points', 'image')}</tr></thead><tbody>"
        )
        for image, one, other in pair.images:
            cells = "".join(
                f"<td class=number>{_points(value, signed=signed)}</td>"
                for value, signed in ((one, False), (other, False), (other - one, True))
            )
            parts.append(f"<tr><td>{escape(image)}</td>{cells}</tr>")
        parts.append("</tbody></table></div>")
    return f"<h2>Is one better?</h2>{''.join(parts)}" if parts else ""


def _points(value: float | None, signed: bool) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
