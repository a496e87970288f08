"""Tells whether one evaluation is better than another of the same images: pure functions of counts.

Images are drawn, or whole scenes where images come from scenes: what is drawn is a *unit*. Both evaluations get the
same units in each draw (a *paired* bootstrap: Efron and Tibshirani 1993, An Introduction to the Bootstrap), since most
of what varies from image to image, such as how hard it is, then cancels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.metrics import functional
from lightning_seg.metrics.functional import AbsentClasses

DRAWS = 10_000
"""How often units are drawn."""

CONFIDENCE = 0.95
"""The share of intervals that hold the true difference."""

MIN_UNITS = 6
"""From so many units on there is an interval: of n that agree by chance, 2^(1 - n) is below 5 % only from 6 on."""

_WEIGHTS_AT_ONCE = 2**22
"""How many weights of units are in memory at once."""


@dataclass(frozen=True)
class Totals:
    """Pixels of each class that are right, true and predicted, (..., K) each, int64 or float64."""

    hits: Tensor
    true: Tensor
    predicted: Tensor

    @classmethod
    def of_matrices(cls, matrices: Tensor) -> "Totals":
        """The totals of (..., K, K) counts, rows by truth."""
        return cls(matrices.diagonal(dim1=-2, dim2=-1), matrices.sum(-1), matrices.sum(-2))

    def by_unit(self, unit_of_image: Tensor) -> "Totals":
        """Sum the totals (N, K) of images to those of units (U, K); ``unit_of_image`` is (N,) int64, 0 to U - 1."""
        empty = torch.zeros(int(unit_of_image.max()) + 1, self.true.shape[1], dtype=self.true.dtype)
        parts = (empty.index_add(0, unit_of_image, part) for part in (self.hits, self.true, self.predicted))
        return Totals(*parts)


@dataclass(frozen=True)
class Comparison:
    """Figures of two sides and the intervals of their difference, (2 + K,) each: mIoU, fwIoU, IoU of each class.

    Attributes:
        first: figures of the one side, float64 in [0, 1]; NaN for a figure that does not exist.
        second: figures of the other.
        low: lower ends of the intervals of ``second - first``; NaN where there are too few units for one.
        high: upper ends.
        units: in how many units the figure's class occurs, in truth or prediction; for averages all units, int64.
    """

    first: Tensor
    second: Tensor
    low: Tensor
    high: Tensor
    units: Tensor

    @property
    def difference(self) -> Tensor:
        """``second - first``."""
        return self.second - self.first


def figures_of_totals(totals: Totals, absent_classes: AbsentClasses) -> Tensor:
    """mIoU, fwIoU and the IoU of each class, (..., 2 + K) float64; NaN for a figure that does not exist."""
    hits, true, predicted = (part.double() for part in (totals.hits, totals.true, totals.predicted))
    iou = functional.iou_of_totals(hits, true, predicted, absent_classes)
    of_truth = functional.iou_of_totals(hits, true, predicted, "detectron2")
    weighted = (true * of_truth.nan_to_num(0.0)).sum(-1) / true.sum(-1)
    return torch.cat([iou.nanmean(-1, keepdim=True), weighted[..., None], iou], dim=-1)


def compare(
    first: Sequence[Totals],
    second: Sequence[Totals],
    absent_classes: AbsentClasses,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two sides by a paired bootstrap over units, with expanded percentile intervals.

    A side is one evaluation, or several trainings of one configuration; its figures are then the mean over them. In a
    draw, a class without pixels has no IoU, by the same rule as in an evaluation: mIoU is then the mean of the others.
    The interval of a class's IoU is over the draws in which it has one. There is none if the class occurs in fewer than
    :data:`MIN_UNITS` units.

    Args:
        first: of each evaluation of the one side, its totals (U, K) of each unit.
        second: of the other side, of the same units in the same order.
        absent_classes: the averaging rule over classes.
        draws: how often U units are drawn of the U, with replacement.
        seed: of the draws.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: if there are fewer than :data:`MIN_UNITS` units.
    """
    units = len(first[0].true)
    if units < MIN_UNITS:
        raise ValueError(f"{units} units are too few for an interval: {MIN_UNITS} are needed")
    differences = drawn_differences(first, second, absent_classes, draws=draws, seed=seed).numpy()
    occurs = torch.stack([run.true + run.predicted > 0 for run in (*first, *second)]).any(0)  # (U, K)
    counted = torch.cat([torch.full((2,), units), occurs.sum(0)])
    ends = [_interval(column, n, confidence) for column, n in zip(differences.T, counted.tolist(), strict=True)]
    low, high = torch.tensor(ends, dtype=torch.float64).unbind(1)
    whole = torch.ones(1, units, dtype=torch.float64)
    figures = [_figures_of_side(side, whole, absent_classes)[0] for side in (first, second)]
    return Comparison(figures[0], figures[1], low, high, counted)


def drawn_differences(
    first: Sequence[Totals], second: Sequence[Totals], absent_classes: AbsentClasses, *, draws: int, seed: int
) -> Tensor:
    """The difference of each figure in each draw of :func:`compare`, (draws, 2 + K) float64; NaN if there is none."""
    return torch.cat(
        [
            _figures_of_side(second, weights, absent_classes) - _figures_of_side(first, weights, absent_classes)
            for weights in _draw(len(first[0].true), draws, seed)
        ]
    )


def _figures_of_side(side: Sequence[Totals], weights: Tensor, absent_classes: AbsentClasses) -> Tensor:
    """The mean over evaluations of the figures of units that count ``weights`` times, (draws, U) to (draws, 2 + K)."""
    figures = [
        figures_of_totals(
            Totals(*(weights @ part.double() for part in (run.hits, run.true, run.predicted))), absent_classes
        )
        for run in side
    ]
    return torch.stack(figures).mean(0)


def _draw(units: int, draws: int, seed: int) -> Iterator[Tensor]:
    """How often each unit is in each draw: (some, U) float64, over and over until there are ``draws`` rows."""
    random = np.random.default_rng(seed)
    step = max(1, _WEIGHTS_AT_ONCE // units)
    for first in range(0, draws, step):
        rows = min(step, draws - first)
        taken = random.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        yield torch.from_numpy(np.bincount(taken.ravel(), minlength=rows * units).reshape(rows, units)).double()


def _interval(values: NDArray[np.float64], units: int, confidence: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if units < MIN_UNITS or not len(known):
        return math.nan, math.nan
    tail = expanded_tail(units, confidence)
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(units: int, confidence: float = CONFIDENCE) -> float:
    """The share of draws that lies beyond each end of an interval.

    Draws of few units vary too little: by sqrt((n - 1) / n), and their quantiles are those of a normal distribution
    where Student's t is right. The *expanded percentile interval* mends both: Hesterberg 2015, What Teachers Should
    Know About the Bootstrap, The American Statistician 69(4), arXiv:1411.5279.

    Args:
        units: n, at least 2.
        confidence: of the interval.

    Returns:
        Φ(-sqrt(n / (n - 1)) · t), with t the quantile of n - 1 degrees of freedom; for many units (1 - confidence) / 2.
    """
    return NormalDist().cdf(-math.sqrt(units / (units - 1)) * _student(units - 1, confidence))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a mean over trainings with different seeds: mean ± t · s / sqrt(n) (Student 1908).

    Args:
        values: at least two, of which s is the standard deviation (n - 1).
        confidence: of the interval.
    """
    half = _student(len(values) - 1, confidence) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def mean_difference_interval(
    first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of ``mean(second) - mean(first)`` over trainings (Welch 1947, Biometrika 34; unequal variances).

    Args:
        first: at least two values.
        second: at least two values.
        confidence: of the interval.
    """
    parts = [stdev(values) ** 2 / len(values) for values in (first, second)]
    difference = fmean(second) - fmean(first)
    if not sum(parts):
        return difference, difference
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
    )
    half = _student(freedom, confidence) * math.sqrt(sum(parts))
    return difference - half, difference + half


def _student(freedom: float, confidence: float) -> float:
    """The quantile of Student's t that a two-sided interval ends at."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))
