"""From an image to its label map: what whole images give, where the process is killed too."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from torch import Tensor

from lightning_seg.geo import predicting
from lightning_seg.geo.georeference import Georeference
from lightning_seg.geo.predicting import is_predicted, predict_label_map
from lightning_seg.geo.tracing import polygons_of
from lightning_seg.geo.windows import WindowedImage
from tests.geo.rasters import INFO, UTM, scene, threshold, threshold_bands, write

H, W = 700, 500
MADE_FROM = {"checkpoint": "a"}


class Killed(BaseException):
    """In place of a signal."""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    pixels = scene(H, W)
    pixels[:, 30:200, 40:90] = 0
    return pixels


@pytest.fixture
def image(pixels: np.ndarray, tmp_path: Path) -> Iterator[WindowedImage]:
    path = write(tmp_path / "a.tif", pixels, nodata=0, tiled=True, blockxsize=64, blockysize=128, **UTM)
    with WindowedImage(path) as image:
        yield image


def predict(image: WindowedImage, path: Path, killed_at: int | None = None, **settings: object) -> list[int]:
    """The rows that bands were asked from, and the first rows of the bands that came."""
    asked = []

    def bands(start: int) -> Iterator[tuple[int, Tensor]]:
        asked.append(start)
        for row, band in threshold_bands(image, start):
            if killed_at is not None and row >= killed_at:
                raise Killed
            asked.append(row)
            yield row, band

    predict_label_map(image, bands, path, INFO, **{"made_from": MADE_FROM, **settings})
    return asked


def test_the_label_map_is_that_of_the_whole_image(pixels: np.ndarray, image: WindowedImage, tmp_path: Path) -> None:
    predict(image, tmp_path / "out/a.tif")
    expected = threshold(torch.from_numpy(pixels)).numpy()
    expected[(pixels == 0).all(0)] = 255
    with rasterio.open(tmp_path / "out/a.tif") as file:
        np.testing.assert_array_equal(file.read(1), expected)
        assert Georeference.of(file) == image.georeference
        assert file.nodata == 255
    assert {*np.unique(expected)} == {0, 1, 2, 255}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tif"]


@pytest.mark.parametrize("killed_at", [0, 60, 300, 660])
def test_a_killed_prediction_goes_on_to_the_same_bytes(image: WindowedImage, killed_at: int, tmp_path: Path) -> None:
    predict(image, tmp_path / "whole.tif")
    path = tmp_path / "a_labels.tif"
    with pytest.raises(Killed):
        predict(image, path, killed_at)
    assert not is_predicted(path)
    assert predict(image, path) == [killed_at, *range(killed_at, H, 60)]
    assert is_predicted(path)
    assert path.read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_a_prediction_that_is_killed_as_it_ends_is_not_predicted_again(
    image: WindowedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.tif"

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "write_cog", killed)
        with pytest.raises(Killed):
            predict(image, path)
    assert predict(image, path) == []
    assert is_predicted(path)


@pytest.mark.parametrize("change", ["checkpoint", "image", "overwrite"])
def test_rows_of_other_inputs_are_not_taken(pixels: np.ndarray, change: str, tmp_path: Path) -> None:
    path, source = tmp_path / "out.tif", write(tmp_path / "a.tif", pixels)
    with WindowedImage(source) as image, pytest.raises(Killed):
        predict(image, path, 300)
    if change == "image":
        write(source, pixels[:, ::-1])
    settings = {"checkpoint": {"made_from": {"checkpoint": "b"}}, "overwrite": {"overwrite": True}}.get(change, {})
    with WindowedImage(source) as image:
        assert predict(image, path, **settings)[0] == 0


def test_bands_may_begin_above_the_row_that_is_asked_for(image: WindowedImage, tmp_path: Path) -> None:
    def bands(start: int, rows: int) -> Iterator[tuple[int, Tensor]]:
        yield from threshold_bands(image, start, rows)

    path = tmp_path / "out.tif"
    predict_label_map(image, lambda start: bands(start, H), tmp_path / "whole.tif", INFO, MADE_FROM)
    with pytest.raises(Killed):
        predict(image, path, 300)
    predict_label_map(image, lambda start: bands(start, 70), path, INFO, MADE_FROM)  # 280 is a band's first row
    assert path.read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_polygons_are_those_of_the_label_map(image: WindowedImage, tmp_path: Path) -> None:
    predict(image, tmp_path / "out.tif")
    count = polygons_of(tmp_path / "out.tif", tmp_path / "out.gpkg")
    with rasterio.open(tmp_path / "out.tif") as file:
        labels = file.read(1)
    about, _, _, columns = pyogrio.raw.read(tmp_path / "out.gpkg")
    table = dict(zip(about["fields"], columns, strict=True))
    assert about["crs"] == "EPSG:32632"
    assert len(table["pixels"]) == count > 10
    for label in range(3):
        assert table["pixels"][table["class_id"] == label].sum() == (labels == label).sum()


@pytest.mark.runs
def test_sigkill_leaves_rows_that_another_process_goes_on_from(image: WindowedImage, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"

    def bands(start: int) -> Iterator[tuple[int, Tensor]]:
        for row, band in threshold_bands(image, start):
            if row == 420:
                os.kill(os.getpid(), signal.SIGKILL)
            yield row, band

    if (child := os.fork()) == 0:
        try:
            predict_label_map(image, bands, path, INFO, MADE_FROM)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert predict(image, path)[0] == 420
    predict(image, tmp_path / "whole.tif")
    assert path.read_bytes() == (tmp_path / "whole.tif").read_bytes()
