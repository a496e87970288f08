"""Fits the temperature at which the probabilities of a network say most of the truth, on a sample of pixels."""

import math

import torch
from torch import Tensor, nn

from lightning_seg.metrics.calibration import Calibration
from lightning_seg.metrics.confusion import Counts
from lightning_seg.metrics.functional import is_counted

PIXELS = 2048
"""Drawn of each image, less those that do not count."""

COLDEST, HOTTEST = 1 / 8, 8.0
"""Temperatures that are looked for."""

_POINTS = 97
_UNIT = 2**20
"""Derivatives are summed as multiples of 1/2²⁰, so that the sum does not depend on the order of the images."""


class TemperatureFit(nn.Module):
    """The T that minimises the mean of −log p_T(truth), where p_T is p^(1/T) divided by its sum.

    That mean is convex in 1/T, so that its derivative has one root. The derivative is summed at 97 values of 1/T, whose
    neighbours differ by 4.4 %, and taken as straight between two of them. Memory does not grow with the images.

    Attributes:
        found: T, once all images are counted; 1 of no pixel.
        before: what was counted of confidences beside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = 1.0
        self.before: Calibration | None = None
        self.sums = Counts(_POINTS, 1)

    @staticmethod
    def sample(truth: Tensor, position: int, ignore_index: int) -> Tensor:
        """(H, W) bool: pixels drawn of a truth (H, W) that count; the same ones for the same position and size."""
        generator = torch.Generator().manual_seed(position)
        drawn = torch.zeros(truth.numel(), dtype=torch.bool)
        drawn[torch.randint(truth.numel(), (PIXELS,), generator=generator)] = True
        return drawn.view(truth.shape).to(truth.device) & is_counted(truth, ignore_index)

    def update(self, probabilities: Tensor, truth: Tensor) -> None:
        """Count N pixels; those whose probabilities are no numbers say nothing.

        Args:
            probabilities: (K, N) float32 at T = 1.
            truth: (N,) class ids.
        """
        logs = probabilities.nan_to_num(1.0).clamp(min=torch.finfo(torch.float32).tiny).log().double()
        of_truth = logs.gather(0, truth.long()[None]).sum()
        below = logs - logs.amax(0)
        slopes = [_mean_log(logs, below, beta).sum() - of_truth for beta in _betas()]
        self.sums.update((torch.stack(slopes) * _UNIT).round().long()[:, None])

    def end(self, before: Calibration | None = None) -> None:
        """Find the T of the pixels of all processes, which all must call this.

        It is :data:`COLDEST` or :data:`HOTTEST` where the best is beyond.

        Args:
            before: is kept.
        """
        self.before = before
        slopes = self.sums.total().flatten().tolist()
        if any(slopes):
            self.found = _root(slopes)


def _mean_log(logs: Tensor, below: Tensor, beta: float) -> Tensor:
    """(N,) Σ_k p_k · logs_k, where p is the softmax of beta · logs; in bits that no number of threads changes.

    Args:
        logs: (K, N) float64.
        below: less the largest of each pixel.
        beta: 1/T.
    """
    shares = (below * beta).exp_()
    total = shares.sum(0)
    return shares.mul_(logs).sum(0).div_(total)


def _root(slopes: list[int]) -> float:
    above = next((place for place, slope in enumerate(slopes) if slope >= 0), None)
    if above is None:
        return COLDEST
    if above == 0:
        return HOTTEST
    (one, other), (low, high) = _betas()[above - 1 : above + 1], slopes[above - 1 : above + 1]
    return 1 / (one + (other - one) * low / (low - high))


def _betas() -> list[float]:
    """Values of 1/T, which rise by the same factor."""
    step = math.log(HOTTEST / COLDEST) / (_POINTS - 1)
    return [math.exp(place * step) / HOTTEST for place in range(_POINTS)]
