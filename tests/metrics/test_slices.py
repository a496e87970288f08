"""Figures by the values of a column are those of the sums of the images' matrices."""

import numpy as np
import pytest
import torch

from lightning_seg.metrics.slices import MISSING, slices_of
from tests.metrics.reports import images_of


def test_figures_of_a_value_are_those_of_its_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randint(0, 9, (3, 3), generator=generator) for _ in range(5)]
    found = slices_of(images_of(matrices), {"camera": ["a", "b", "a", "", "b"], "one": ["x"] * 5})
    assert list(found) == ["camera", "one"]
    assert set(found["camera"]) == {"a", "b", MISSING}
    for value, places in (("a", [0, 2]), ("b", [1, 4]), (MISSING, [3])):
        counts = sum(matrices[place].numpy().astype(float) for place in places)
        assert isinstance(counts, np.ndarray)
        hits = np.diag(counts)
        iou = hits / (counts.sum(0) + counts.sum(1) - hits)
        expected = {
            "mIoU": iou.mean(),
            "mAcc": (hits / counts.sum(1)).mean(),
            "pAcc": hits.sum() / counts.sum(),
            "fwIoU": (iou * counts.sum(1)).sum() / counts.sum(),
            "images": len(places),
            "pixels": counts.sum(),
        }
        assert found["camera"][value] == pytest.approx(expected)
    assert found["one"]["x"]["images"] == 5


def test_a_value_without_a_counted_pixel_has_no_figure() -> None:
    empty = torch.zeros(2, 2, dtype=torch.int64)
    [figures] = slices_of(images_of([empty]), {"camera": ["a"]})["camera"].values()
    assert figures == {"mIoU": None, "mAcc": None, "pAcc": None, "fwIoU": None, "images": 1, "pixels": 0}
