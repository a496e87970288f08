"""Damaged files of a run give one clear error that names the file, and never a wrong figure."""

import errno
import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.errors import ConfigError, LightningSegError
from lightning_seg.plot import main
from lightning_seg.plotting.evaluated import read_evaluated
from lightning_seg.plotting.figures_file import PARTS, read_figures
from lightning_seg.plotting.runs import read_run
from tests.test_plot_comparison import run

FIGURES: dict[str, Any] = {
    "split": "val", "mIoU": 0.5, "mAcc": None, "pAcc": 0.5, "fwIoU": 0.5, "IoU": {"a": 0.5, "b": None},
    "confusion_matrix": [[3, 1], [0, 2]], "num_images": 2, "weights": None,
    "errors": {**dict.fromkeys(PARTS, 0.1), "confused_pairs": [{"true": "a", "predicted": "b", "cost": 0.1}]},
    "calibration": {"ECE": 0.1, "bins": [{"count": 0, "confidence": None, "accuracy": None}]},
    "slices": {"camera": {"left": {"mIoU": 0.5, "pAcc": 0.5, "fwIoU": None, "images": 1}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mIoU": "0.5"}, "mIoU is '0.5', expected a number or null"),
        ({"IoU": {"a": True, "b": 1}}, "IoU.a is 'True', expected a number or null"),
        ({"IoU": {}}, "IoU is '{}', expected an object of classes"),
        ({"confusion_matrix": [[1, 2], [3]]}, r"confusion_matrix\[1\] is '\[3\]', expected a list of 2"),
        ({"confusion_matrix": [[1.5, 2], [3, 4]]}, r"confusion_matrix\[0\]\[0\] is '1.5', expected a count"),
        ({"num_images": -1}, "num_images is '-1', expected a count"),
        ({"weights": []}, r"weights is '\[\]', expected an object"),
        ({"weights": {"path": 3}}, "weights.path is '3', expected a text"),
        ({"errors": {}}, r"errors is '\[\]', expected an object with boundary"),
        ({"calibration": {"ECE": 0.1, "bins": 3}}, "calibration.bins is '3', expected a list"),
        ({"slices": {"camera": {"left": {}}}}, r"slices.camera.left is '\[\]', expected an object with mIoU"),
    ],
)
def test_figures_of_another_kind_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(FIGURES))
    assert read_figures(file) == FIGURES
    file.write_text(json.dumps({**FIGURES, **change}))
    with pytest.raises(
        ConfigError, match=f"metrics.json is not the metrics.json of a run: {message}; evaluate the run"
    ):
        read_figures(file)


def arrays(folder: Path, **changes: Any) -> Path:
    path = Path(run(folder, 60))
    with np.load(path / "images.npz") as old:
        np.savez_compressed(path / "images.npz", **{**old, **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrices": np.zeros((40, 2, 2))}, "of kind float64"),
        ({"matrices": np.zeros((40, 2, 3), np.int64)}, "40 × 2 × 3 values"),
        ({"matrices": np.zeros((40, 4), np.int64)}, "not enough values to unpack"),
        ({"class_names": ["a", "b", "c"]}, "3 names of 2 classes"),
        ({"names": np.array([{}], object)}, "Object arrays cannot be loaded"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"images.npz is not the images.npz of a run \(ValueError: .*{message}"):
        read_evaluated(read_run(arrays(tmp_path / "x/a", **changes)))


def test_any_damage_is_an_error_of_this_project(tmp_path: Path) -> None:
    path = Path(run(tmp_path / "x/a", 60))
    whole = read_evaluated(read_run(path))
    generator = random.Random(0)
    said: list[str] = []
    for name in ("images.npz", "metrics.json"):
        content = (path / name).read_bytes()
        for _ in range(150):
            damaged = bytearray(content[: generator.randrange(len(content))] if generator.random() < 0.4 else content)
            for _ in range(generator.randrange(4) if damaged else 0):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            (path / name).write_bytes(damaged)
            try:
                found = read_evaluated(read_run(path))
            except LightningSegError as error:
                said.append(str(error))
            else:
                assert found.totals.true.equal(whole.totals.true) or name == "metrics.json"
        (path / name).write_bytes(content)
    assert len(said) > 100
    assert all("images.npz" in one or "metrics.json" in one for one in said)
    with zipfile.ZipFile(path / "images.npz") as archive:
        assert archive.testzip() is None


def test_damaged_pictures_and_names_that_are_no_text_are_said(tmp_path: Path) -> None:
    path = Path(run(tmp_path / "x/a", 60))
    overlays = path / "predictions/overlays"
    overlays.mkdir(parents=True)
    (overlays / "empty.jpg").touch()
    Image.new("RGB", (4, 4)).save(overlays / "whole.jpg")
    (overlays / "whole.jpg").rename(overlays / os.fsdecode(b"\xff.jpg"))
    main([str(path)])
    page = (path / "plots/report.html").read_text(encoding="utf-8")
    assert "empty.jpg cannot be read (UnidentifiedImageError)" in page
    assert "<small>?</small>" in page
    assert page.count("data:image/jpeg") == 1


def test_names_of_all_kinds_are_drawn(tmp_path: Path) -> None:
    path = Path(run(tmp_path / r"$\x$" / os.fsdecode(b"\xff"), 60))
    figures = json.loads((path / "metrics.json").read_text())
    figures["IoU"] = {rf"$\{name}$": value for name, value in figures["IoU"].items()}
    (path / "metrics.json").write_text(json.dumps(figures))
    (path / "metrics.csv").write_text("epoch,step,train/loss\n0,0,1.5\n0,1,1.0\n")
    main([str(path)])
    assert sorted(file.name for file in (path / "plots").iterdir()) == [
        "classes.png", "confusion.png", "curves.png", "report.html"
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_or_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(run(tmp_path / "x/a", 60))
    (tmp_path / "file").touch()
    for output in ("file", "file/below"):
        with pytest.raises(SystemExit, match=rf"error: .*{output} cannot be written to \(.*\): give another --output"):
            main([str(path), "--output", str(tmp_path / output)])

    def closed(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(SystemExit):
        main([str(path)])
    assert "metrics.json cannot be read (Permission denied)" in capsys.readouterr().err
