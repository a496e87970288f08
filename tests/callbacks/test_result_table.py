"""The table that an evaluation ends with."""

import dataclasses

import pytest
import torch
from rich.console import Console

from lightning_seg.callbacks.result_table import result_table
from tests.metrics.reports import report_of


def test_worst_classes_come_first_and_absent_ones_last() -> None:
    matrix = torch.tensor([[9, 1, 0], [2, 2, 0], [0, 0, 0]])
    report = report_of("test", ["road", "pole", "train"], matrix, BoundaryIoU=torch.tensor([0.5, 0.5, torch.nan]))
    console = Console(width=120, record=True)
    console.print(result_table(report))
    text = console.export_text()
    lines = [line for line in text.splitlines() if any(name in line for name in ("road", "pole", "train", "all"))]
    assert [line.split()[1] for line in lines] == ["class", "pole", "road", "train", "all"]
    assert lines[1].split()[3] == "40.00"  # IoU of pole
    assert "–" in lines[3]
    assert "57.50" in lines[4]
    assert "test: 1 images" in text
    assert "fwIoU" in text
    assert "BoundaryIoU" in text
    assert "mIoU 57.50 over 2 of 3 classes; mAcc" in text


def test_nothing_is_said_of_a_mean_over_all_classes() -> None:
    report = report_of("val", ["a", "b"], torch.tensor([[9, 1], [2, 2]]))
    assert "over" not in str(result_table(report).caption)
    assert report.as_json()["num_averaged_classes"] == 2


@pytest.mark.parametrize(("wrong", "said"), [(2, "\nof mIoU, a taken for b costs 9.5 points"), (0, "")])
def test_what_errors_cost_is_said_below(wrong: int, said: str) -> None:
    kinds = torch.zeros(6, 2, dtype=torch.int64)
    matrix = torch.tensor([[18, wrong], [0, 20]])
    report = dataclasses.replace(report_of("val", ["a", "b"], matrix), error_kinds=kinds)
    caption = result_table(report).caption
    assert str(caption).partition("fwIoU")[2].partition("\n")[1:] == (said[:1], said[1:])


def test_names_of_classes_are_no_markup() -> None:
    kinds = torch.zeros(6, 2, dtype=torch.int64)
    report = report_of("val", ["low [green]", "end[/b]"], torch.tensor([[18, 2], [0, 20]]))
    console = Console(width=120, record=True)
    console.print(result_table(dataclasses.replace(report, error_kinds=kinds)))
    text = console.export_text()
    assert "low [green] taken for end[/b] costs" in text
    assert sum(line.split()[1:3] == ["low", "[green]"] for line in text.splitlines()) == 1
    assert "│ end[/b]" in text
