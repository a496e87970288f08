"""Which images are read by windows, and what is written of them and of GeoTIFFs."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from PIL import Image
from torch import Tensor

from lightning_seg.data.reading import ReadingRules
from lightning_seg.data.reading.video import Frame
from lightning_seg.errors import DataError, UnfitImageError, UnreadableError
from lightning_seg.geo.windows import WindowedImage
from lightning_seg.predictions import overlay, rasters
from lightning_seg.predictions.rasters import RasterRules, files_of, save_raster
from tests.geo.rasters import INFO, UTM, scene, threshold, threshold_bands, write
from tests.predictions.videos import write_video

RULES = ReadingRules()
H, W = 90, 70


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    Image.fromarray(scene(H, W).transpose(1, 2, 0)).save(tmp_path / "a.png")
    return {
        "png": tmp_path / "a.png",
        "tiff": write(tmp_path / "plain.tif", scene(H, W)),
        "geotiff": write(tmp_path / "geo.tif", scene(H, W), **UTM),
    }


def test_geotiffs_and_large_tiffs_are_read_by_windows(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opens = pickle.loads(pickle.dumps(RasterRules(RULES, True, 1)))  # in a loading process
    for large, windowed in ((H * W, {"geotiff"}), (H * W - 1, {"geotiff", "tiff"})):
        monkeypatch.setattr(rasters, "_LARGE", large)
        opened = {kind: opens(path) for kind, path in files.items()}
        assert {kind for kind, image in opened.items() if image is not None} == windowed
        assert all(isinstance(opened[kind], WindowedImage) for kind in windowed)
    assert not any(RasterRules(RULES, False, None)(path) for path in files.values())


def test_what_does_not_fit_into_memory_names_the_way_out(files: dict[str, Path]) -> None:
    for path in files.values():
        with pytest.raises(
            UnfitImageError, match=rf"image {path} is 70×90 pixels: .* takes 0\.0 GiB .*--model.inference SlidingWindow"
        ):
            RasterRules(RULES, False, H * W * 64 - 1)(path)
        assert RasterRules(RULES, False, H * W * 64)(path) is None


def test_without_the_libraries_small_files_are_read_as_ever(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasters, "has_libraries", lambda: False)
    opens = RasterRules(RULES, True, None)
    assert not any(opens(path) for path in files.values())
    assert opens.place(files["geotiff"]) is None
    monkeypatch.setattr(rasters, "_LARGE", 1)
    with pytest.raises(UnfitImageError, match=r"plain\.tif is 70×90 pixels, .* pip install 'lightning_seg\[geo\]'"):
        opens(files["tiff"])


def test_a_place_is_found_in_geotiffs_alone(files: dict[str, Path]) -> None:
    opens = RasterRules(RULES, False, None)
    assert opens.place(files["png"]) is None
    assert opens.place(files["tiff"]) is None
    with opens.place(files["geotiff"]) as image:  # type: ignore[union-attr]
        assert image.georeference.transform == UTM["transform"]


def test_frames_of_a_video_are_read_as_ever(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 2)
    assert RasterRules(RULES, True, 1)(Frame(tmp_path / "clip.avi", 1)) is None


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"image .*none\.tif does not exist"):
        RasterRules(RULES, True, None)(tmp_path / "none.tif")


@pytest.mark.parametrize("by_windows", [True, False])
def test_label_map_polygons_and_overlay(by_windows: bool, tmp_path: Path) -> None:
    pixels = scene(H, W)
    pixels[:, :20] = 0
    labels = threshold(torch.from_numpy(pixels))

    def whole(start: int) -> Iterator[tuple[int, Tensor]]:
        yield 0, labels

    with WindowedImage(write(tmp_path / "a.tif", pixels, nodata=0, **UTM)) as image:
        bands = (lambda start: threshold_bands(image, start)) if by_windows else whole
        save_raster(image, bands, "deep/a", INFO, tmp_path / "out", ["masks", "overlays", "polygons"], {})
    found = {form: files_of(tmp_path / "out", form, "deep/a")[0] for form in ("masks", "overlays", "polygons")}
    with rasterio.open(found["masks"]) as file:
        np.testing.assert_array_equal(file.read(1)[20:], labels.numpy()[20:])
        assert (file.read(1)[:20] == 255).all()
        assert file.crs.to_epsg() == 32632
    assert pyogrio.read_info(found["polygons"])["crs"] == "EPSG:32632"
    with rasterio.open(found["masks"]) as file:
        usual = io.BytesIO()
        picture = overlay(pixels.transpose(1, 2, 0), file.read(1), INFO)  # no class: the colour of ignored pixels
        Image.fromarray(picture).save(usual, "JPEG", quality=90)
    assert found["overlays"].read_bytes() == usual.getvalue()


def test_an_overlay_of_a_large_image_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "_PREVIEW", 45)
    with WindowedImage(write(tmp_path / "a.tif", scene(H, W))) as image:
        save_raster(image, lambda start: threshold_bands(image, start), "a", INFO, tmp_path, ["overlays"], {})
    assert Image.open(tmp_path / "overlays/a.jpg").size == (35, 45)


def test_formats_that_need_the_whole_image_are_refused(tmp_path: Path) -> None:
    formats = ["masks", "coco", "probabilities"]
    with (
        WindowedImage(write(tmp_path / "a.tif", scene(H, W))) as image,
        pytest.raises(DataError, match=r"a\.tif is read by windows, .* but not coco, probabilities: leave it out"),
    ):
        save_raster(image, lambda start: threshold_bands(image, start), "a", INFO, tmp_path, formats, {})
