"""The one metric: a confusion matrix that every figure derives from."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_seg.metrics import functional


class ConfusionMatrix(Metric):
    """Accumulates :func:`~lightning_seg.metrics.functional.confusion_matrix` over images and processes.

    The only state is one (K, K) int64 matrix that is summed over processes, so that the result is exact and does
    not depend on their number. ``compute`` returns it; figures are functions in
    :mod:`lightning_seg.metrics.functional`.

    Args:
        num_classes: K.
        ignore_index: true value of pixels that do not count.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    matrix: Tensor

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add the pixels of one image or batch; class ids of any integer type and equal shape."""
        self.matrix += functional.confusion_matrix(prediction, truth, self.num_classes, self.ignore_index)

    def compute(self) -> Tensor:
        """The (K, K) int64 matrix over all processes."""
        return self.matrix
