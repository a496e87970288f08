"""Counts how sure a network is, and how often it is right when it is so sure: exact integers, in any order."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_seg.metrics.functional import is_counted

BINS = 15
"""Of equal width from 0 to 1, as of Guo et al. 2017, arXiv:1706.04599; 1 itself is in the last one."""

_UNIT = 2**24
"""Confidences are summed as multiples of 1/2²⁴, which is all that a float32 from 0.5 to 1 holds."""


def count_confidences(confidence: Tensor, prediction: Tensor, truth: Tensor, ignore_index: int) -> Tensor:
    """Count the pixels of an image by how sure the network is of them.

    Args:
        confidence: (H, W) float32 in [0, 1], the largest class probability.
        prediction: (H, W) class ids.
        truth: (H, W) class ids or ``ignore_index``.
        ignore_index: true value of pixels that do not count.

    Returns:
        (:data:`BINS`, 3) int64: of each bin the pixels, those that are right, and the sum of confidences times 2²⁴.
    """
    counted = is_counted(truth, ignore_index)
    units = (confidence[counted].double() * _UNIT).round().long()
    places = (units * BINS).div(_UNIT, rounding_mode="floor").clamp_(max=BINS - 1)
    right = (prediction[counted] == truth[counted]).long()
    columns = torch.stack([torch.ones_like(units), right, units], dim=1)
    return torch.zeros(BINS, 3, dtype=torch.int64, device=units.device).index_add_(0, places, columns)


@dataclass(frozen=True)
class Calibration:
    """How far confidences are from what happens.

    Attributes:
        counts: (:data:`BINS`, 3) int64 on the CPU, sums of :func:`count_confidences`.
    """

    counts: Tensor

    @property
    def error(self) -> float:
        """The expected calibration error in [0, 1]: |accuracy − mean confidence| by pixels of the bins; NaN of none."""
        pixels, right, units = self.counts.double().unbind(1)
        return ((right - units / _UNIT).abs().sum() / pixels.sum()).item()

    def as_json(self) -> dict[str, Any]:
        """``ECE``, and ``bins`` with their borders, pixels, mean confidence and accuracy; null where there are none."""
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
        return {"ECE": None if math.isnan(self.error) else self.error, "bins": bins}
