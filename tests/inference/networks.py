"""Functions that stand for a network, and images, for tests of how an image is evaluated."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.inference.kernel import JustInTime
from lightning_seg.structures import Batch, DenseScores


class Network:
    """Convolutions with zeros around their input, so that what it says at the edge of its input is other than inside.

    Args:
        stride: of the first convolution, whose kernel is ``2 * stride - 1``; three more of 3×3 follow where it is 1.
        classes: how many.
    """

    def __init__(self, stride: int = 1, classes: int = 5) -> None:
        generator = torch.Generator().manual_seed(0)
        kernel = 2 * stride - 1 if stride > 1 else 3
        self.stride = stride
        self.kernels = [torch.randn(classes, 3, kernel, kernel, generator=generator)]
        self.kernels += [
            torch.randn(classes, classes, 3, 3, generator=generator) for _ in range(1 if stride > 1 else 2)
        ]
        self.kernels = [kernel / kernel[0].numel() ** 0.5 for kernel in self.kernels]
        self.batches: list[int] = []

    def logits(self, image: Tensor) -> Tensor:
        """(K, h, w) of (3, H, W)."""
        height, width = image.shape[-2:]
        features = F.pad(image.float()[None] / 255 - 0.5, (0, -width % self.stride, 0, -height % self.stride))
        for index, kernel in enumerate(self.kernels):
            stride = self.stride if index == 0 else 1
            features = F.conv2d(
                features, kernel.to(features.device), stride=stride, padding=(kernel.shape[-1] - 1) // 2
            ).tanh()
        return 8 * features[0]

    def probabilities(self, image: Tensor) -> Tensor:
        """(K, H, W) of (3, H, W), all at once."""
        full = F.interpolate(self.logits(image)[None], scale_factor=self.stride, mode="bilinear", align_corners=False)
        return full[0, :, : image.shape[1], : image.shape[2]].softmax(0)

    def __call__(self, batch: Batch) -> Any:
        self.batches.append(len(batch))
        return SimpleNamespace(
            scores=[DenseScores(self.logits(sample["image"]), self.stride) for sample in batch],
            input_sizes=[tuple(sample["image"].shape[1:]) for sample in batch],
            losses=[
                {"loss": sample["sem_seg"].float().mean() + sample["image"].float().mean()}
                if "sem_seg" in sample
                else {}
                for sample in batch
            ],
        )


class Windowed:
    """An image that is only read by windows."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.largest = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width = self.image.shape
        return 3, height, width

    def window(self, rows: slice, columns: slice) -> Tensor:
        assert 0 <= rows.start < rows.stop <= self.image.shape[1]
        assert 0 <= columns.start < columns.stop <= self.image.shape[2]
        self.largest = max(self.largest, (rows.stop - rows.start) * (columns.stop - columns.start))
        return self.image[:, rows, columns]


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@cache
def has_compiler() -> bool:
    """Whether torch can compile a sum."""
    try:
        torch.compile(lambda values: values + values, dynamic=True)(torch.ones(2))
    except Exception:  # whatever a machine without a compiler raises
        return False
    return True


def assert_compiled(form: JustInTime) -> None:
    """Skip the rest of the test where nothing can be compiled."""
    if not has_compiler():
        pytest.skip("there is no working C++ compiler")
    assert form._compiled
    assert not form.failed
