"""Columns of a manifest go with its samples; wrong ones are refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_seg.cli import main
from lightning_seg.data import Manifest
from lightning_seg.data.loading.records import Records
from lightning_seg.errors import ConfigError, DataError


def write(folder: Path, *rows: str, name: str = "set.csv") -> None:
    for stem in "abc":
        (folder / f"{stem}.jpg").write_bytes(b"")
        (folder / f"{stem}.png").write_bytes(b"")
    (folder / name).write_text("\n".join(rows) + "\n")


def test_values_go_with_the_samples(tmp_path: Path) -> None:
    write(tmp_path, "image,mask,camera,weather", "a.jpg,a.png, left ,rain", "b.jpg,b.png,,sun", "c.jpg,c.png")
    samples = Manifest("set.csv", columns=["camera", "weather"]).samples(tmp_path)
    expected = [("left", "rain"), ("", "sun"), ("", "")]
    assert [sample.columns for sample in samples] == [(("camera", c), ("weather", w)) for c, w in expected]
    assert [sample.columns for sample in Records(samples)] == [sample.columns for sample in samples]
    assert all(sample.columns == () for sample in Manifest("set.csv").samples(tmp_path))


def test_json_lines_may_lack_a_value(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "mask": "a.png"}, {"image": "b.jpg", "mask": "b.png", "camera": 7}]
    write(tmp_path, *map(json.dumps, rows), name="set.jsonl")
    samples = Manifest("set.jsonl", columns=["camera"]).samples(tmp_path)
    assert [sample.columns for sample in samples] == [(("camera", ""),), (("camera", "7"),)]


def test_an_unknown_column_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "image,mask,camera", "a.jpg,a.png,x")
    with pytest.raises(DataError, match=r"set\.csv has no column 'camra'.*its columns are image, mask, camera"):
        Manifest("set.csv", columns=["camra"]).samples(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["loss"], "column of images.csv itself"), (["IoU/car"], "images.csv itself"), (["a", "a"], "'a' twice")],
)
def test_names_that_clash_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Manifest("set.csv", columns=columns)


def test_an_evaluation_gives_figures_by_value(scenes: Path, experiment: Callable[..., Path], tmp_path: Path) -> None:
    images = sorted((scenes / "images/val").iterdir()) if (scenes / "images/val").is_dir() else []
    masks = {file.stem: file for file in scenes.rglob("*.png") if "val" in file.parts and "images" not in file.parts}
    images = images or sorted(file for file in scenes.rglob("*.jpg") if "val" in file.parts)
    lines = [f"{file},{masks[file.stem]},{'odd' if number % 2 else 'even'}" for number, file in enumerate(images)]
    (tmp_path / "val.csv").write_text("\n".join(["image,mask,camera", *lines]) + "\n")
    reader: dict[str, Any] = {
        "class_path": "lightning_seg.data.Manifest",
        "init_args": {"file": str(tmp_path / "val.csv"), "columns": ["camera"]},
    }
    config = experiment(val=reader)
    main(["fit", "--config", str(config), "--trainer.max_steps", "1"])
    [run] = Path("runs/tiny").glob("version_*")
    main(["validate", "--ckpt_path", str(run)])
    evaluated = sorted(Path("runs/tiny").glob("version_*"))[-1]
    figures = json.loads((evaluated / "metrics.json").read_text())
    slices = figures["slices"]["camera"]
    with (evaluated / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["camera"] for row in rows] == [line.rpartition(",")[2] for line in lines]
    assert slices["even"]["images"] + slices.get("odd", {"images": 0})["images"] == len(lines) == len(rows)
    assert sum(one["pixels"] for one in slices.values()) == figures["num_valid_pixels"]
    for value, one in slices.items():
        of_value = [row for row in rows if row["camera"] == value]
        right = sum(float(row["pAcc"]) * int(row["pixels"]) for row in of_value)
        assert one["pAcc"] == pytest.approx(right / sum(int(row["pixels"]) for row in of_value))
