"""What is kept of each image comes back whole, and its figures are those of its matrix."""

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_seg.metrics import AbsentClasses, ImageFigures
from lightning_seg.metrics import functional as figures
from lightning_seg.metrics.images import encode_image
from tests.metrics.reports import images_of

K = 4


def matrices() -> list[Tensor]:
    """Random ones with absent classes, one of an image without a counted pixel, one without errors."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(0, 300, (K, K), generator=generator) for _ in range(3)]
    drawn[0][1] = 0
    drawn[1][:, 2] = drawn[1][2] = 0
    return [*drawn, torch.zeros(K, K, dtype=torch.int64), torch.diag(torch.tensor([5, 0, 0, 2]))]


@pytest.mark.parametrize("absent_classes", get_args(AbsentClasses))
def test_figures_of_images_are_those_of_their_matrices(absent_classes: AbsentClasses) -> None:
    found = images_of(matrices(), absent_classes=absent_classes)
    assert len(found) == 5
    for index, matrix in enumerate(matrices()):
        assert torch.equal(found.matrix(index), matrix)
        np.testing.assert_array_equal(found.iou[index], figures.iou_per_class(matrix, absent_classes))
        np.testing.assert_array_equal(found.mean_iou[index], figures.mean_iou(matrix, absent_classes))
        np.testing.assert_array_equal(found.pixel_accuracy[index], figures.pixel_accuracy(matrix))
        assert found.pixels[index] == matrix.sum()
    assert found.mean_iou.isnan().tolist() == [False, False, False, True, False]


def test_any_order_gives_the_order_of_the_data() -> None:
    codes = [encode_image(place, place / 8, matrix) for place, matrix in enumerate(matrices())]
    expected = ImageFigures.decode(torch.cat(codes), K, "detectron2")
    found = ImageFigures.decode(torch.cat([codes[place] for place in (3, 0, 4, 2, 1)]), K, "detectron2")
    assert found.positions.tolist() == expected.positions.tolist() == [0, 1, 2, 3, 4]
    assert found.losses.tolist() == expected.losses.tolist() == [0, 0.125, 0.25, 0.375, 0.5]
    assert found.matrices().tolist() == expected.matrices().tolist()
    assert found.matrices(1, 3).tolist() == [matrix.tolist() for matrix in matrices()[1:3]]
    assert found.mean_loss == 0.25


@pytest.mark.parametrize(
    ("most", "kind"),
    [(255, np.uint8), (256, np.uint16), (2**16, np.uint32), (2**32 - 1, np.uint32), (2**32, np.uint64)],
)
def test_counts_have_the_smallest_type_that_holds_them(most: int, kind: Any) -> None:
    found = images_of([torch.tensor([[most, 0], [1, 0]])]).matrices()
    assert found.dtype == kind
    assert found.tolist() == [[[most, 0], [1, 0]]]


def test_no_image_at_all() -> None:
    none = ImageFigures.decode(torch.zeros(0, dtype=torch.int64), K, "detectron2")
    assert none.matrices().shape == (0, K, K)
    assert none.iou.shape == (0, K)
    assert len(none.mean_iou) == len(none.pixels) == 0
    assert none.mean_loss == 0


def test_a_loss_that_is_not_finite_is_in_the_mean() -> None:
    assert images_of(matrices()[:2], losses=[math.inf, 1.0]).mean_loss == math.inf
    assert images_of(matrices()[:2], losses=[math.nan, 1.0]).mean_loss.isnan()
