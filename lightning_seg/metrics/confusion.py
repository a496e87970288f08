"""Holds the states of an evaluation: sums of integer counts, and the counts of each image.

All are integers, also those that hold the bits of fractions, since converting a module to half precision would round
the fractions in its metrics.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class Counts(Metric):
    """Sums int64 counts over images and processes.

    The sum is exact, and the same for any number of processes. :meth:`total` returns it; figures are functions in
    :mod:`lightning_seg.metrics.functional`.

    Args:
        rows: how many rows the counts of an image have.
        columns: how many columns they have.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    matrix: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.add_state("matrix", torch.zeros(rows, columns, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add the (rows, columns) counts of an image."""
        self.matrix += counts

    def compute(self) -> Tensor:
        """The int64 sum over all processes; torchmetrics makes a scalar of a single number."""
        return self.matrix

    def total(self) -> Tensor:
        """What :meth:`compute` gives, always (rows, columns)."""
        return self.compute().view_as(self.matrix)


class ConfusionMatrix(Counts):
    """Sums what :func:`~lightning_seg.metrics.functional.confusion_matrix` counts, (K, K) with rows by truth.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, num_classes)


class EachImage(Metric):
    """Keeps the counts of every image, over all processes.

    Images are integers, see :func:`~lightning_seg.metrics.images.encode_image`. ``compute`` returns them in any order,
    for :meth:`~lightning_seg.metrics.images.ImageFigures.decode`.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    codes: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("codes", [], dist_reduce_fx="cat")

    def update(self, codes: Sequence[Tensor]) -> None:
        """Add the images of this process, also if it has none: without a state, torchmetrics would gather a float32."""
        self.codes.append(torch.cat([torch.zeros(0, dtype=torch.int64), *codes]).to(self.device))

    def compute(self) -> Tensor:
        """The codes of all processes one after the other, 1-D int64."""
        return dim_zero_cat(self.codes)
