"""Computes what each kind of error costs: the mIoU that mending exactly its pixels would add."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_seg.metrics.error_kinds import KINDS
from lightning_seg.metrics.functional import AbsentClasses, iou_of_totals, iou_per_class, mean_iou

MOST_PAIRS = 100
"""How many pairs of confused classes are kept, the costliest first."""

_IN_WORDS = {"small_missed": "small regions missed", "boundary": "boundaries", "invented": "regions invented"}

_INTERACTION = "interaction"

_SHOWN_PAIRS = 12
"""How many pairs charts show."""

_MENTIONED = 6
"""How many errors a sentence names."""


@dataclass(frozen=True)
class Pair:
    """Pixels of one class that are confused with another.

    Attributes:
        true: name of their class.
        predicted: name of the class that they are taken for.
        cost: the mIoU that mending exactly these pixels would add.
        pixels: how many they are.
    """

    true: str
    predicted: str
    cost: float
    pixels: int


@dataclass(frozen=True)
class ErrorBudget:
    """Where the mIoU that is missing to 1 goes: ``sum(parts.values()) + interaction == 1 - mIoU`` to rounding.

    Attributes:
        parts: of each of :data:`~lightning_seg.metrics.error_kinds.KINDS`, the mIoU that mending exactly its pixels
            would add.
        interaction: what mending all of them adds beyond the sum of the parts.
        pixels: how many pixels each kind has.
        pairs: what the pixels of ``confused`` are taken for, the costliest pairs first. Together they cost more
            than their sum, as the parts do.
    """

    parts: dict[str, float]
    interaction: float
    pixels: dict[str, int]
    pairs: Sequence[Pair]

    @property
    def costs(self) -> list[tuple[str, float]]:
        """Errors in words and what they cost, the costliest first: kinds, pairs of classes in place of ``confused``.

        What mending all kinds adds beyond their sum comes last.
        """
        costs = [(name, self.parts[kind]) for kind, name in _IN_WORDS.items()]
        costs += [(f"{pair.true} taken for {pair.predicted}", pair.cost) for pair in self.pairs[:_SHOWN_PAIRS]]
        return [*sorted(costs, key=lambda one: -one[1]), (_INTERACTION, self.interaction)]

    @property
    def in_words(self) -> str:
        """The costliest errors in points of mIoU, in one sentence; empty if none costs a tenth of a point."""
        costs = [one for one in self.costs if one[1] >= 0.0005 and one[0] != _INTERACTION]
        if not costs:
            return ""
        (first, cost), *others = [(name, f"{100 * cost:.1f}") for name, cost in costs[:_MENTIONED]]
        verb = "costs" if " taken for " in first else "cost"
        more = ", …" if len(costs) > _MENTIONED else ""
        return ", ".join([f"{first} {verb} {cost} points", *(f"{name} {cost}" for name, cost in others)]) + more

    def as_json(self) -> dict[str, Any]:
        """The budget in plain values for ``metrics.json``."""
        return {
            **self.parts,
            "interaction": self.interaction,
            "pixels": self.pixels,
            "confused_pairs": [vars(pair) for pair in self.pairs],
        }


def error_budget(
    matrix: Tensor, kinds: Tensor, class_names: Sequence[str], absent_classes: AbsentClasses
) -> ErrorBudget | None:
    """Compute the budget; None if there is no mIoU, because no pixel counts.

    Args:
        matrix: (K, K) int64 confusion matrix.
        kinds: (3, K, K) int64, the sum of :func:`~lightning_seg.metrics.error_kinds.count_kinds` over the same images.
        class_names: K names in id order.
        absent_classes: the averaging rule over classes.
    """
    wrong = matrix - matrix.diagonal().diag()
    of_kind = dict(zip(KINDS, [*kinds, wrong - kinds.sum(0)], strict=True))
    now = mean_iou(matrix, absent_classes).item()
    if math.isnan(now):
        return None
    parts = {kind: mean_iou(mended(matrix, pixels), absent_classes).item() - now for kind, pixels in of_kind.items()}
    pixels = {kind: int(counts.sum()) for kind, counts in of_kind.items()}
    pairs = _pairs(matrix, of_kind["confused"], class_names, absent_classes)
    return ErrorBudget(parts, math.fsum([1, -now, *(-part for part in parts.values())]), pixels, pairs)


def mended(matrix: Tensor, pixels: Tensor) -> Tensor:
    """The confusion matrix if these of its pixels were right; both are (K, K) int64."""
    return matrix - pixels + pixels.sum(1).diag()


def _pairs(matrix: Tensor, confused: Tensor, names: Sequence[str], absent_classes: AbsentClasses) -> list[Pair]:
    """The costliest pairs. Mending one changes the IoU of its two classes alone, so no pair needs a whole matrix."""
    iou = iou_per_class(matrix, absent_classes)
    cells = confused.nonzero()  # (n, 2): true and predicted class
    counts = confused[cells[:, 0], cells[:, 1]]
    moved = torch.stack([counts, -counts], 1)  # (n, 2)
    hits, true, predicted = (totals[cells] for totals in (matrix.diagonal(), matrix.sum(1), matrix.sum(0)))
    hits = hits + moved.clamp(min=0)
    after = iou_of_totals(hits.double(), true.double(), (predicted + moved).double(), absent_classes)
    before = iou[cells]
    total = iou.nansum() + after.nansum(1) - before.nansum(1)
    classes = iou.isfinite().sum() + after.isfinite().sum(1) - before.isfinite().sum(1)
    costs = total / classes - iou.nanmean()
    return [
        Pair(names[int(cells[place, 0])], names[int(cells[place, 1])], costs[place].item(), int(counts[place]))
        for place in costs.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    ]
