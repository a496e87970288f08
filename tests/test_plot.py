"""Pictures and the page of runs, from their files alone."""

import base64
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.plot import draw_classes, draw_curves, main, read_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A run that validated twice, and one that was only evaluated, without one class."""
    made = []
    for number, iou in enumerate(({"a": 0.5, "b<c": 0.25}, {"a": 0.75, "b<c": None})):
        run = tmp_path / "name" / f"version_{number}"
        run.mkdir(parents=True)
        metrics = {"split": "val", "mIoU": 0.375, "mAcc": 0.5, "pAcc": 0.625, "fwIoU": None, "IoU": iou}
        matrix = [[3, 1], [0, 0]]
        (run / "metrics.json").write_text(json.dumps({**metrics, "confusion_matrix": matrix, "num_images": 7}))
        made.append(run)
    with (made[0] / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "train/loss", "val/mIoU"])
        writer.writeheader()
        writer.writerows({"epoch": 0, "step": step, "train/loss": 1 / (step + 1)} for step in range(5))
        writer.writerow({"epoch": 0, "step": 4, "val/mIoU": 0.375})
    return made


def test_curves_and_bars_show_what_the_files_say(runs: list[Path]) -> None:
    read = [read_run(run) for run in runs]
    panels = {panel.get_title(): panel for panel in draw_curves(read).axes}
    assert set(panels) == {"train/loss", "val/mIoU"}
    assert panels["train/loss"].lines[0].get_xydata().tolist() == [[step, 1 / (step + 1)] for step in range(5)]
    panel = draw_classes(read).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["b<c", "a"]
    assert [[bar.get_width() for bar in bars] for bars in panel.containers] == [[0.25, 0.5], [0.0, 0.75]]
    assert [text.get_text() for text in panel.texts] == ["no pixels"]
    [legend] = panel.figure.legends
    assert [text.get_text() for text in legend.texts] == [
        "name/version_0: mIoU 0.375", "name/version_1: mIoU 0.375 over 1 of 2 classes"
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_report_is_one_page_with_its_pictures(
    runs: list[Path], count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main([str(run) for run in runs[:count]])
    said = [Path(line) for line in capsys.readouterr().out.splitlines()]
    folder = runs[0] / "plots" if count == 1 else Path("plots")
    names = ["curves.png", "classes.png", *(["confusion.png"] if count == 1 else []), "report.html"]
    assert said == [folder / name for name in names]
    assert np.asarray(Image.open(folder / "classes.png").convert("L")).std() > 5
    page = (folder / "report.html").read_text()
    held = [base64.b64decode(code) for code in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert held == [path.read_bytes() for path in said[:-1]]
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<td>0.3750</td><td>0.5000</td><td>0.6250</td><td>–</td><td>7</td>" in page
    assert page.count("<td>0.3750 over 1 of 2 classes</td>") == count - 1


def test_refuses_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 1
    assert "neither metrics.csv nor metrics.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.csv", "name,age\nAnn,3\n", "metrics.csv is not the metrics.csv of a run (KeyError: 'step')"),
        ("metrics.csv", "step,train/loss\n1,a\n", "is not the metrics.csv of a run (ValueError: could not convert"),
        ("metrics.csv", "step,train/loss\n1,2,3\n", "is not the metrics.csv of a run (TypeError"),
        ("metrics.json", "[1, 2]", "metrics.json is not the metrics.json of a run: it has no split, mIoU"),
        ("metrics.json", '{"split": "val"', "metrics.json is not the metrics.json of a run (Expecting"),
    ],
)
def test_foreign_files_are_named_and_left_out(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, message: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / file).write_text(text)
    with pytest.raises(SystemExit) as caught:
        main([str(other)])
    assert caught.value.code == 1
    assert message in capsys.readouterr().err
    main([str(other), str(runs[1]), str(tmp_path)])
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["left out", "left out"]
    assert str(runs[1] / "plots" / "report.html") in said.out


def test_a_torn_last_row_is_no_row(runs: list[Path]) -> None:
    table = runs[0] / "metrics.csv"
    before = read_run(runs[0]).curves
    table.write_bytes(table.read_bytes() + b"0,5,0.1")
    assert read_run(runs[0]).curves == before
