"""A scene from bands to polygons: every command of examples/satellite/run.sh, and what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.examples.shell import commands, run

pytest.importorskip("rasterio")
pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]


def test_every_command(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import rasterio

    lines = commands((REPOSITORY / "examples/satellite/run.sh").read_text())
    assert len(lines) == 6
    for line in lines[:4]:
        run(line, monkeypatch)
    config = (REPOSITORY / "examples/satellite/land.yaml").read_text()
    said = capsys.readouterr().out
    run(lines[4], monkeypatch)
    looked = capsys.readouterr().out
    run(lines[5], monkeypatch)

    bands = np.concatenate(
        [rasterio.open(file).read().reshape(4, -1) for file in Path("data/land/train/images").iterdir()], 1
    )
    for key, values in (("MEAN", bands.mean(1)), ("STD", bands.std(1))):
        assert f"MODEL.PIXEL_{key}: {values.round().tolist()}" in config  # what the audit told
        assert f"MODEL.PIXEL_{key}: [{int(values[0])}." in said

    with rasterio.open("data/land/scene.tif") as scene, rasterio.open("land/masks/scene.tif") as labels:
        assert (labels.crs, labels.transform, labels.shape) == (scene.crs, scene.transform, scene.shape)
        assert np.array_equal(labels.read(1) == 255, (scene.read() == 0).all(0))
        counts = np.bincount(labels.read(1).ravel(), minlength=3)[:3]
    assert "700×560 pixels in EPSG:32632, upper left corner at 600000 E 5400000 N" in looked
    hectares = [int(row.split(" polygons, ")[1].split(" ha")[0]) for row in looked.splitlines() if " polygons, " in row]
    assert hectares == [round(count / 100) for count in counts]  # 10 m pixels
    simple = json.loads(Path("land/simple.geojson").read_text())
    assert {feature["properties"]["class"] for feature in simple["features"]} <= {"soil", "crop", "water"}
