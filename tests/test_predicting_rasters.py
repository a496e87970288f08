"""The command predict on GeoTIFFs and on images that do not fit into memory."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from jsonargparse._paths import Path as ParserPath
from PIL import Image

from lightning_seg.callbacks import prediction_files
from lightning_seg.cli import main
from tests.conftest import train_py
from tests.geo.rasters import UTM, scene, write
from tests.runs import Experiment

pytestmark = pytest.mark.runs

WINDOWS = ("--model.inference", "SlidingWindow", "--model.inference.window", "[64, 64]")
H, W = 300, 150


@pytest.fixture
def trained(experiment: Experiment) -> str:
    main(["fit", "--config", str(experiment(eval_batch_size=2)), "--trainer.max_steps", "1", "--data.val", "null"])
    return "runs/tiny/version_0"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A GeoTIFF with a corner of nodata, the same pixels as a PNG, and one whose tiles are damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = scene(H, W) | 1
    pixels[:, 200:, 100:] = 0
    Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / "plain.png")
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "photometric": "rgb"}
    write(folder / "geo.tif", pixels, nodata=0, **tiles, **UTM)
    damaged = write(folder / "damaged.tif", scene(H, W), **tiles, **UTM)
    data = bytearray(damaged.read_bytes())
    data[-3000:-2000] = bytes(1000)
    damaged.write_bytes(data)
    return folder


def predict(trained: str, photos: Path, output: str, *more: str) -> list[str]:
    return ["predict", "--ckpt_path", trained, "--data.predict", str(photos), "--output", output, *more]


@pytest.mark.parametrize("way", [WINDOWS, ()], ids=["windows", "whole"])
def test_a_geotiff_becomes_a_geotiff(
    way: tuple[str, ...], trained: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(predict(trained, photos, "out", "--save", "masks", "overlays", "polygons", *way))
    error = capsys.readouterr().err.partition("error: ")[2]
    assert error.startswith("1 of 3 images could not be predicted")
    assert f"image {photos}/damaged.tif cannot be read (" in error
    assert "previous exception" not in error
    with rasterio.open("out/masks/geo.tif") as file:
        labels = file.read(1)
        assert (file.crs.to_epsg(), file.transform, file.nodata) == (32632, UTM["transform"], 255)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert (labels[200:, 100:] == 255).all()
    plain = np.asarray(Image.open("out/masks/plain.png"))  # which is read as a whole
    np.testing.assert_array_equal(labels[:200], plain[:200])
    np.testing.assert_array_equal(labels[200:, :100], plain[200:, :100])
    about, _, _, columns = pyogrio.raw.read("out/polygons/geo.gpkg")
    assert about["crs"] == "EPSG:32632"
    assert columns[list(about["fields"]).index("pixels")].sum() == (labels != 255).sum()
    assert Image.open("out/overlays/geo.jpg").size == (W, H)
    names = sorted(path.name for path in Path("out").rglob("*") if path.is_file() and path.suffix in (".tif", ".rows"))
    assert names == ["geo.tif"]


def test_a_killed_prediction_goes_on_to_the_same_bytes(
    trained: str, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = (*WINDOWS, "--save", "masks")
    main(predict(trained, photos / "geo.tif", "whole", *given))
    expected = Path("whole/masks/geo.tif").read_bytes()
    listener = {"class_path": "tests.geo.rasters.DiesAtSize", "init_args": {"size": 300}}
    listener["init_args"]["file"] = "killed/masks/geo.tif.rows"  # type: ignore[index]
    killed = ["--trainer.callbacks", json.dumps([listener])]
    assert train_py(*predict(trained, photos / "geo.tif", "killed", *given, *killed)).returncode == -9
    rows = Path("killed/masks/geo.tif.rows")
    assert rows.exists()
    assert not Path("killed/masks/geo.tif").exists()
    caplog.set_level(logging.INFO, "pytorch_lightning.utilities.rank_zero")
    main(predict(trained, photos / "geo.tif", "killed", *given))
    assert re.search(rf"geo\.tif: goes on at row [1-9]\d* of {H}", caplog.text)
    assert Path("killed/masks/geo.tif").read_bytes() == expected
    assert not rows.exists()


def test_what_does_not_fit_names_the_way_out(
    trained: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prediction_files, "memory_of", lambda device: H * W * 64 - 1)
    with pytest.raises(SystemExit):
        main(predict(trained, photos / "geo.tif", "whole"))
    error = capsys.readouterr().err.replace("\n", " ")
    assert f"image {photos}/geo.tif is {W}×{H} pixels: evaluating it as a whole takes" in error
    assert "Evaluate windows of it: --model.inference SlidingWindow" in error
    main(predict(trained, photos / "geo.tif", "windows", *WINDOWS))
    assert Path("windows/masks/geo.tif").is_file()
    assert Path("windows/overlays/geo.jpg").is_file()


def test_formats_that_want_the_whole_image_are_refused_by_name(
    trained: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(predict(trained, photos / "geo.tif", "out", *WINDOWS, "--save", "masks", "probabilities"))
    assert "is read by windows, of which --save writes masks, overlays, polygons, but not probabilities" in (
        capsys.readouterr().err
    )
    main(predict(trained, photos / "geo.tif", "whole", "--save", "masks", "probabilities"))
    assert Path("whole/masks/geo.tif").is_file()
    assert Path("whole/probabilities/geo.npz").is_file()


def test_an_image_is_not_read_as_configuration(trained: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As jsonargparse reads files that options name: three times, as text, whatever their size."""
    read: list[str] = []
    original = ParserPath.read_text

    def read_text(path: Any) -> str:
        read.append(str(path))
        return str(original(path))

    monkeypatch.setattr(ParserPath, "read_text", read_text)
    main(predict(trained, photos / "geo.tif", "out", *WINDOWS, "--save", "masks"))
    assert Path("out/masks/geo.tif").is_file()
    assert read
    assert not [path for path in read if path.endswith(".tif")]
