"""The notebook: its code cells run in order, in one namespace, as a kernel runs them.

Jupyter itself is not asked: it would be some 60 packages more in the locked environment, for cells that hold no magics.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

NOTEBOOK = json.loads((REPOSITORY / "examples/notebook.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_every_cell(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for place, cell in enumerate(CODE):
        exec(compile(cell.replace("EPOCHS, IMAGES = 5, 160", "EPOCHS, IMAGES = 1, 32"), f"cell {place}", "exec"), names)
    said = capsys.readouterr().out
    assert "points of mIoU" in said
    assert "on 8 images" in said
    one, other = names["one"].report, names["other"].report
    assert one.matrix.sum() == other.matrix.sum() > 0
    assert not torch.equal(one.matrix, other.matrix)  # the criterion counts
    assert Path("runs/compared/report.html").exists()
    assert names["result"].mask.shape == names["result"].confidence.shape == (128, 160)
    assert [len(plt.figure(number).axes) for number in plt.get_fignums()] == [2, 1, 3]
    plt.close("all")


def test_it_is_committed_without_outputs() -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None]
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
