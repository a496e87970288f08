"""Says whether one run is better than another that evaluated the same images, in words and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

import torch

from lightning_seg.errors import ConfigError
from lightning_seg.metrics import comparison as statistics
from lightning_seg.metrics.functional import iou_of_totals
from lightning_seg.plotting.evaluated import Evaluated, aligned, read_evaluated, units_of
from lightning_seg.plotting.seeds import Side

SHOWN = 8
"""How many images are listed on which two runs differ most."""


@dataclass(frozen=True)
class Compared:
    """Two sides and the intervals of their difference.

    Attributes:
        one: one run, or several of one configuration; figures are then means.
        other: what it is compared with.
        classes: their names.
        figures: intervals over images.
        counted: what was evaluated, in words.
        images: those on which their own mIoU differs most: name and both values.
    """

    one: Side
    other: Side
    classes: list[str]
    figures: statistics.Comparison
    counted: str
    images: list[tuple[str, float, float]]

    @property
    def first(self) -> str:
        """The name of the one side."""
        return self.one.name

    @property
    def second(self) -> str:
        """The name of the other side."""
        return self.other.name

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """The interval of the difference over seeds; None unless both sides have several runs that differ."""
        sides = (self.one.values, self.other.values)
        if min(map(len, sides)) < 2 or not any(map(stdev, sides)):
            return None
        return statistics.mean_difference_interval(*sides)

    @property
    def winner(self) -> str | None:
        """The side whose mIoU is higher, if no interval of the difference holds zero.

        Of several runs of a side, both sides need them: the difference must hold over images and over seeds.
        """
        intervals = [(self.figures.low[0].item(), self.figures.high[0].item())]
        if len(self.one.runs) > 1 or len(self.other.runs) > 1:
            intervals.append(self.over_seeds or (-math.inf, math.inf))
        if all(low > 0 for low, _ in intervals):
            return self.second
        return self.first if all(high < 0 for _, high in intervals) else None

    def __str__(self) -> str:
        difference = 100 * self.figures.difference[0].item()
        ends = [(self.figures.low[0].item(), self.figures.high[0].item(), " over images")]
        if self.over_seeds is not None:
            ends.insert(0, (*self.over_seeds, " over seeds"))
        if len(self.one.runs) == len(self.other.runs) == 1:
            ends = [(*ends[0][:2], "")]
        if self.winner is None:
            spans = ", ".join(f"{100 * low:+.1f} to {100 * high:+.1f}{over}" for low, high, over in ends)
            said = f"No difference can be told between {self.first} and {self.second}"
            alone = [side for side in (self.one, self.other) if len(side.runs) == 1]
            after = ""
            if len(alone) == 1:
                said = f"Whether {self.second} is better than {self.first} cannot be told"
                after = f"; {alone[0].name} is one training: evaluate others with other seeds"
            return f"{said}: {difference:+.1f} points of mIoU ({spans}) on {self.counted}{after}"
        digits = 1 if all(round(100 * abs(end), 1) for span in ends for end in span[:2]) else 3
        spans = ", ".join(
            "{:.{d}f} to {:.{d}f}{}".format(*sorted((100 * abs(low), 100 * abs(high))), over, d=digits)
            for low, high, over in ends
        )
        loser = self.first if self.winner == self.second else self.second
        return (
            f"{self.winner} is better than {loser} by {abs(difference):.{digits}f} points of mIoU ({spans}) "
            f"on {self.counted}"
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
            "over_seeds": None if self.over_seeds is None else dict(zip(keys[3:], self.over_seeds, strict=True)),
            **dict(rows[:2]),
            "IoU": dict(rows[2:]),
            "most_different_images": [
                {"name": name, "first": first, "second": second} for name, first, second in self.images
            ],
        }


def compare_sides(sides: Sequence[Side], group_by: str | None = None) -> list[Compared]:
    """Compare the first of the sides with each other one; nothing is compared if there are only trainings.

    Args:
        sides: evaluated runs by configuration.
        group_by: a regular expression whose first group names the scene of an image; scenes are drawn, not images.

    Raises:
        ConfigError: if they cannot be compared: the message names the image, class or file.
    """
    runs = [run for side in sides for run in side.runs]
    if len(sides) < 2 or all(run.trained and not (run.folder / "images.npz").is_file() for run in runs):
        return []
    first = read_evaluated(sides[0].runs[0])
    units, what = units_of(first.names, group_by)
    if what < statistics.MIN_UNITS:
        raise ConfigError(
            f"{what} {'scenes' if group_by else 'images'} are too few for an interval: at least "
            f"{statistics.MIN_UNITS} are needed"
        )
    counted = f"{len(first.names)} images" + (f" of {what} scenes" if group_by else "")
    one = [first, *(aligned(first, read_evaluated(run)) for run in sides[0].runs[1:])]
    found = []
    for side in sides[1:]:
        other = [aligned(first, read_evaluated(run)) for run in side.runs]
        totals = [[run.totals.by_unit(units) for run in some] for some in (one, other)]
        figures = statistics.compare(totals[0], totals[1], first.absent_classes)
        found.append(Compared(sides[0], side, first.class_names, figures, counted, _most_different(one, other)))
    return found


def _most_different(one: Sequence[Evaluated], other: Sequence[Evaluated]) -> list[tuple[str, float, float]]:
    first, second = (torch.stack([_own_miou(run) for run in some]).mean(0) for some in (one, other))
    order = (second - first).abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:SHOWN].tolist()
    return [(one[0].names[place], first[place].item(), second[place].item()) for place in order]


def _own_miou(run: Evaluated) -> torch.Tensor:
    """The mIoU of each image, (N,) float64; NaN without a counted pixel."""
    hits, true, predicted = (part.double() for part in (run.totals.hits, run.totals.true, run.totals.predicted))
    return iou_of_totals(hits, true, predicted, run.absent_classes).nanmean(1)
