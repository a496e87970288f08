"""Counts how sure a network is, and how often it is right when it is so sure: exact integers, in any order."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_seg.metrics.functional import histogram, is_counted

BINS = 15
"""Of equal width from 0 to 1, as of Guo et al. 2017, arXiv:1706.04599; 1 itself is in the last one."""

_BITS = 24
_UNIT = 2**_BITS
"""Confidences are summed as multiples of 1/2²⁴, which is all that a float32 from 0.5 to 1 holds."""


def count_confidences(confidence: Tensor, prediction: Tensor, truth: Tensor, ignore_index: int) -> Tensor:
    """Count the pixels of an image by how sure the network is of them.

    Args:
        confidence: (H, W) float32 in [0, 1], the largest class probability; NaN counts as 0.
        prediction: (H, W) class ids.
        truth: (H, W) class ids or ``ignore_index``.
        ignore_index: true value of pixels that do not count.

    Returns:
        (:data:`BINS`, 3) int64: of each bin the pixels, those that are right, and the sum of confidences times 2²⁴.
    """
    # Times a power of 2 is exact, and 15 times that fits into 32 bits.
    units = (confidence.nan_to_num(0.0) * _UNIT).round_().int()
    places = (units * BINS).bitwise_right_shift_(_BITS).clamp_(max=BINS - 1)
    places.masked_fill_(~is_counted(truth, ignore_index), BINS)  # a bin of what does not count
    sums = histogram(places.flatten(), BINS + 1, units.flatten())
    by_right = histogram(places.mul_(2).add_(prediction == truth).flatten(), 2 * (BINS + 1)).view(-1, 2)
    return torch.stack([by_right.sum(1), by_right[:, 1], sums], dim=1)[:BINS]


@dataclass(frozen=True)
class Calibration:
    """How far confidences are from what happens.

    Attributes:
        counts: (:data:`BINS`, 3) int64 on the CPU, sums of :func:`count_confidences`.
        temperature: T > 0 of the confidences.
    """

    counts: Tensor
    temperature: float = 1.0

    @property
    def error(self) -> float:
        """The expected calibration error in [0, 1]: |accuracy − mean confidence| by pixels of the bins; NaN of none."""
        pixels, right, units = self.counts.double().unbind(1)
        error: float = ((right - units / _UNIT).abs().sum() / pixels.sum()).item()
        return error

    def as_json(self) -> dict[str, Any]:
        """``ECE``, ``temperature``, and ``bins``, each with its borders, pixels, mean confidence and accuracy.

        A figure of no pixel is null.
        """
        bins = []
        for place, (pixels, right, units) in enumerate(self.counts.tolist()):
            bins.append(
                {
                    "from": place / BINS,
                    "to": (place + 1) / BINS,
                    "count": pixels,
                    "confidence": units / _UNIT / pixels if pixels else None,
                    "accuracy": right / pixels if pixels else None,
                }
            )
        return {
            "ECE": None if math.isnan(self.error) else self.error,
            "temperature": self.temperature,
            "bins": bins,
        }
