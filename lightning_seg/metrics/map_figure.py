"""Describes a figure that is counted from the label maps of each image, since the confusion matrix is not enough."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MapFigure:
    """A figure of each class that is counted beside the confusion matrix.

    Attributes:
        name: as ``metrics.json`` has it; ``m`` before it names the mean over classes.
        columns: how many numbers each of the K classes counts.
        count: takes prediction and truth (H, W), K and the ignore index, and returns (K, columns) int64 for one image.
        per_class: takes the sum of the counts over all images, on the CPU, and returns (K,) float64; NaN for a class
            that has no figure.
    """

    name: str
    columns: int
    count: Callable[[Tensor, Tensor, int, int], Tensor]
    per_class: Callable[[Tensor], Tensor]
