"""The bars of what errors cost, and their place on the page."""

import dataclasses
from pathlib import Path

import pytest
import torch

from lightning_seg.metrics.error_kinds import COUNTED
from lightning_seg.plot import write_report
from lightning_seg.plotting.errors import PARTS, draw_errors
from lightning_seg.plotting.runs import Run
from tests.metrics.reports import report_of


def evaluated(name: str, folder: Path, *, errors: bool = True, right: int = 15) -> Run:
    """Of three classes, of whose errors one pixel is at a boundary."""
    report = report_of("val", ["sky", "road", "wall"], torch.tensor([[right, 3, 0], [0, 9, 1], [0, 0, 9]]))
    kinds = torch.zeros(3, 3, 3, dtype=torch.int64)
    kinds[COUNTED.index("boundary"), 0, 1] = 1
    report = dataclasses.replace(report, error_kinds=kinds.flatten(0, 1) if errors else None)
    return Run(name, folder, metrics=report.as_json())


def test_bars_are_the_points_of_the_file(tmp_path: Path) -> None:
    runs = [evaluated("a", tmp_path), evaluated("none", tmp_path, errors=False), evaluated("b", tmp_path, right=5)]
    figure = draw_errors(runs)
    above, below = figure.axes
    assert [label.get_text() for label in above.get_yticklabels()] == [*PARTS.values()]
    assert [label.get_text() for label in below.get_yticklabels()] == ["sky taken for road", "road taken for wall"]
    for run, parts, pairs in zip((runs[0], runs[2]), above.containers, below.containers, strict=True):
        errors = run.metrics["errors"]
        assert [bar.get_width() for bar in parts] == pytest.approx([100 * errors[part] for part in PARTS])
        assert sum(bar.get_width() for bar in parts) == pytest.approx(100 * (1 - run.metrics["mIoU"]))
        cost = {(pair["true"], pair["predicted"]): 100 * pair["cost"] for pair in errors["confused_pairs"]}
        assert [bar.get_width() for bar in pairs] == pytest.approx([cost["sky", "road"], cost["road", "wall"]])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.texts] == ["a", "b"]


def test_without_confusions_there_is_one_panel(tmp_path: Path) -> None:
    run = evaluated("a", tmp_path)
    run.metrics["errors"]["confused_pairs"] = []
    assert [panel.get_visible() for panel in draw_errors([run]).axes] == [True, False]


@pytest.mark.parametrize("errors", [True, False])
def test_the_page_has_them_where_they_were_counted(tmp_path: Path, errors: bool) -> None:
    files = write_report([evaluated("a", tmp_path, errors=errors)], tmp_path / "plots")
    page = files[-1].read_text()
    assert (tmp_path / "plots/errors.png" in files) == errors
    assert ("<h2>What the errors cost</h2>" in page) == errors
