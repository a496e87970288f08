"""The grid of a GeoTIFF, read from its tags, is the one that GDAL reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_seg.data.reading.grid import Grid, grid_of
from tests.data.reading.files import saved

rasterio = pytest.importorskip("rasterio")
from rasterio.transform import Affine  # noqa: E402

TRANSFORMS = {
    "north up": Affine(10, 0, 300000, 0, -10, 5000000),
    "oblong": Affine(0.5, 0, -20.25, 0, -0.25, 3.5),
    "turned": Affine(7.5, 2.5, 1000, 2.5, -7.5, 2000),
}


def geotiff(path: Path, **settings: Any) -> Path:
    pixels = np.zeros((1, 6, 8), np.uint8)
    with rasterio.open(path, "w", driver="GTiff", height=6, width=8, count=1, dtype="uint8", **settings) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("bigtiff", ["NO", "YES"])
@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_grid_is_that_of_gdal(tmp_path: Path, kind: str, endianness: str, bigtiff: str) -> None:
    transform = TRANSFORMS[kind]
    path = geotiff(tmp_path / "a.tif", crs="EPSG:32632", transform=transform, ENDIANNESS=endianness, BIGTIFF=bigtiff)
    grid = grid_of(path, "image")
    assert grid is not None
    assert grid.matrix == pytest.approx(tuple(transform)[:6])
    assert (grid.code, grid.unit) == (32632, "m")
    with rasterio.open(path) as file:
        assert grid.matrix == pytest.approx(tuple(file.transform)[:6])
        assert grid.pixel_size == pytest.approx(file.res if kind != "turned" else (62.5**0.5,) * 2)


def test_points_in_the_middle_of_pixels_are_moved_as_gdal_does(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(0.5, 0, 8, 0, -0.5, 48))
    moved = geotiff(tmp_path / "b.tif", crs="EPSG:4326", transform=Affine(0.5, 0, 8, 0, -0.5, 48))
    with rasterio.open(moved, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    assert grid_of(moved, "image") == grid_of(path, "image") == Grid((0.5, 0, 8, 0, -0.5, 48), 4326, (6, 8), "°")


def test_files_without_a_place_have_no_grid(tmp_path: Path) -> None:
    assert grid_of(geotiff(tmp_path / "a.tif"), "image") is None
    (tmp_path / "a.png").write_bytes(saved(np.zeros((4, 4), np.uint8), "PNG"))
    assert grid_of(tmp_path / "a.png", "image") is None


def test_a_system_of_ones_own_has_no_code(tmp_path: Path) -> None:
    own = "+proj=tmerc +lat_0=3 +lon_0=7.3 +k=0.99 +x_0=12 +y_0=5 +ellps=bessel +units=us-ft"
    grid = grid_of(geotiff(tmp_path / "a.tif", crs=own, transform=TRANSFORMS["north up"]), "image")
    assert grid is not None
    assert (grid.code, grid.unit) == (None, "US survey ft")
