"""What charts say in words; what they show is tested with the pictures of a run."""

import pytest
import torch

from lightning_seg.callbacks.dashboard import _charts
from tests.metrics.reports import report_of


@pytest.mark.parametrize(
    ("matrix", "title"),
    [
        ([[9, 0], [0, 0]], "IoU of each class (val), mean over 1 of 2 classes"),
        ([[9, 0], [1, 1]], "IoU of each class (val)"),
    ],
)
def test_the_bars_say_over_how_many_classes_the_mean_is(matrix: list[list[int]], title: str) -> None:
    report = report_of("val", ["a", "b"], torch.tensor(matrix))
    assert _charts(report)["val/IoU_bars"].spec.string_fields["title"] == title
