"""The states of an evaluation: sums of integer counts, and one figure an image."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_seg.metrics import functional
from lightning_seg.metrics.functional import AbsentClasses


class ConfusionMatrix(Metric):
    """Sums (K, K) int64 counts over images and processes.

    Exact, and the same for any number of processes. ``compute`` returns the sum; figures are functions in
    :mod:`lightning_seg.metrics.functional`.

    Args:
        num_classes: K.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add the counts of an image, see :func:`~lightning_seg.metrics.functional.confusion_matrix`."""
        self.matrix += counts

    def compute(self) -> Tensor:
        """The (K, K) int64 matrix over all processes."""
        return self.matrix


class ImageIoU(Metric):
    """Keeps the mIoU of every image, over all processes.

    The state holds the bits of float64 as int64, because not every device has float64. A process without images has
    an empty tensor of that type to gather, where torchmetrics would take a float32.

    Args:
        absent_classes: the averaging rule within an image.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    bits: list[Tensor]

    def __init__(self, absent_classes: AbsentClasses) -> None:
        super().__init__()
        self.absent_classes = absent_classes
        self.add_state("bits", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.bits.append(torch.zeros(0, dtype=torch.int64, device=self.device))

    def update(self, counts: Tensor) -> None:
        """Add one image by its (K, K) counts on the CPU."""
        value = functional.mean_iou(counts, self.absent_classes)
        self.bits.append(value.view(1).view(torch.int64).to(self.device, non_blocking=True))  # waits for no GPU

    def compute(self) -> Tensor:
        """(images,) float64 on the CPU, in any order; NaN for an image without a counted pixel."""
        return dim_zero_cat(self.bits).cpu().view(torch.float64)
