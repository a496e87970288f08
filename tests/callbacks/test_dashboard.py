"""What charts say in words; what they show is tested with the pictures of a run."""

import dataclasses

import pytest
import torch

from lightning_seg.callbacks.dashboard import _charts
from lightning_seg.metrics.error_kinds import COUNTED
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


def test_errors_are_bars() -> None:
    report = report_of("val", ["a", "b"], torch.tensor([[18, 2], [1, 19]]))
    assert "val/errors" not in _charts(report)
    kinds = torch.zeros(3, 2, 2, dtype=torch.int64)
    kinds[COUNTED.index("boundary"), 1, 0] = 1
    report = dataclasses.replace(report, error_kinds=kinds.flatten(0, 1))
    assert report.error_budget is not None
    chart = _charts(report)["val/errors"]
    assert chart.table.data == [[*cost] for cost in report.error_budget.costs]
    assert chart.table.data[0][0] == "a taken for b"
    assert chart.table.data[-1][0] == "interaction"
    assert sum(cost for _, cost in chart.table.data) == pytest.approx(1 - report.averages["mIoU"])
    assert chart.spec.string_fields["title"] == "mIoU that errors take (val)"
