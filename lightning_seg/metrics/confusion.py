"""The states of an evaluation: sums of integer counts, and figures of each image.

All are integers, also those that hold the bits of fractions: what converts a network to half precision converts the
fractions of the metrics in it, too.
"""

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


class _EachImage(Metric):
    """Keeps figures of every image, over all processes.

    A process without images has an empty tensor of the states' type to gather, where torchmetrics would take a float32.
    """

    full_state_update = False
    is_differentiable = False
    bits: list[Tensor]

    def __init__(self, bits_type: torch.dtype) -> None:
        super().__init__()
        self.bits_type = bits_type
        self.add_state("bits", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.bits.append(torch.zeros(0, dtype=self.bits_type, device=self.device))


class ImageIoU(_EachImage):
    """Keeps the mIoU of every image: the bits of a float64, because not every device has float64.

    Args:
        absent_classes: the averaging rule within an image.
    """

    higher_is_better = True

    def __init__(self, absent_classes: AbsentClasses) -> None:
        super().__init__(torch.int64)
        self.absent_classes = absent_classes

    def update(self, counts: Tensor) -> None:
        """Add one image by its (K, K) counts on the CPU."""
        value = functional.mean_iou(counts, self.absent_classes)
        self.bits.append(value.view(1).view(torch.int64).to(self.device, non_blocking=True))  # waits for no GPU

    def compute(self) -> Tensor:
        """(images,) float64 on the CPU, in any order; NaN for an image without a counted pixel."""
        return dim_zero_cat(self.bits).cpu().view(torch.float64)


class MeanLoss(_EachImage):
    """Keeps the loss of every image: the bits of a float32. The mean is the same for any number of processes."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__(torch.int32)

    def update(self, loss: Tensor, images: int) -> None:
        """Add the mean loss of some images, a scalar."""
        self.bits.append(loss.detach().float().reshape(1).view(torch.int32).expand(images).clone())

    def compute(self) -> Tensor:
        """A float64 scalar on the CPU; zero where there is no image."""
        losses = dim_zero_cat(self.bits).cpu().view(torch.float32).double()
        return losses.sort().values.sum() / max(1, len(losses))
