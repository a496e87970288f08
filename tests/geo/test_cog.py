"""Label maps as Cloud-Optimised GeoTIFFs: pixels, layout, georeference, palette, nodata; always the same bytes."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from lightning_seg.colours import default_palette
from lightning_seg.data.reading.directories import read_directories
from lightning_seg.data.reading.gdal import gdal
from lightning_seg.errors import DiskFullError
from lightning_seg.geo.cog import CLASS_NAMES, TILE, write_cog
from lightning_seg.geo.georeference import Georeference
from lightning_seg.structures import DatasetInfo
from tests.geo.rasters import INFO, TURNED, UTM, regions

HEIGHT, WIDTH = 1100, 700
PLACE = Georeference(CRS.from_string(UTM["crs"]), UTM["transform"])


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    labels = regions(HEIGHT, WIDTH, side=31)
    labels[:300, :200] = 255
    return labels


def bands(labels: np.ndarray) -> Iterator[np.ndarray]:
    return (labels[row : row + TILE] for row in range(0, len(labels), TILE))


def written(path: Path, labels: np.ndarray, info: DatasetInfo = INFO, place: Georeference = PLACE) -> Path:
    write_cog(path, bands(labels), labels.shape, info, place)
    return path


def said(path: Path) -> dict[str, Any]:
    with gdal(), rasterio.open(path) as file:
        return {
            "labels": file.read(1),
            "layout": file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"),
            "tile": file.block_shapes[0],
            "overviews": file.overviews(1),
            "place": Georeference.of(file),
            "nodata": file.nodata,
            "names": json.loads(file.tags()[CLASS_NAMES]),
            "colours": file.colormap(1) if file.colorinterp[0].name == "palette" else None,
            "compression": file.compression.value,
        }


def test_all_that_a_label_map_says_is_there(labels: np.ndarray, tmp_path: Path) -> None:
    of = said(written(tmp_path / "a.tif", labels))
    np.testing.assert_array_equal(of["labels"], labels)
    assert of["labels"].dtype == np.uint8
    assert of["place"] == PLACE
    assert of["nodata"] == 255
    assert of["names"] == list(INFO.names)
    assert [of["colours"][index][:3] for index in range(3)] == list(INFO.palette)
    assert of["colours"][255][:3] == INFO.ignore_colour
    assert (of["compression"], of["tile"]) == ("DEFLATE", (TILE, TILE))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def test_it_is_cloud_optimised(labels: np.ndarray, tmp_path: Path) -> None:
    """What ``rio cogeo validate`` asks: tiles, overviews, directories before all data, small overviews' data first."""
    path = written(tmp_path / "a.tif", labels)
    assert said(path)["layout"] == "COG"
    assert said(path)["overviews"] == [2, 4]
    assert b"LAYOUT=IFDS_BEFORE_DATA" in path.read_bytes()[:300]
    width, tile_width, tiles = 256, 322, 324
    with path.open("rb") as file:
        directories = list(read_directories(file, (width, tile_width, tiles)))
    assert [each[width].values[0] for each in directories] == [700, 350, 175]
    assert all(each[tile_width].values[0] == TILE for each in directories)
    places = [each[width].place for each in directories]
    data = [min(each[tiles].values) for each in directories]
    assert places == sorted(places)
    assert max(places) < min(data)
    assert data == sorted(data, reverse=True)


def test_overviews_show_the_most_frequent_class(tmp_path: Path) -> None:
    labels = np.zeros((1024, 1024), np.uint8)
    labels[::2, ::2] = 2  # a quarter
    labels[600:] = 1
    with rasterio.open(written(tmp_path / "a.tif", labels)) as file:
        small = file.read(1, out_shape=(512, 512))
    assert (small[:300] == 0).all()
    assert (small[300:] == 1).all()


def test_the_same_labels_give_the_same_bytes(labels: np.ndarray, tmp_path: Path) -> None:
    assert written(tmp_path / "a.tif", labels).read_bytes() == written(tmp_path / "b.tif", labels).read_bytes()


@pytest.mark.parametrize(
    "place",
    [
        Georeference(),
        Georeference(CRS.from_epsg(4326), TURNED, is_point=True),
        Georeference(points=(GroundControlPoint(0, 0, 7, 46), GroundControlPoint(9, 0, 8, 46),
                             GroundControlPoint(0, 9, 7, 45)), points_crs=CRS.from_epsg(4326)),
    ],
    ids=["none", "turned", "points"],
)  # fmt: skip
def test_every_kind_of_place_is_kept(place: Georeference, tmp_path: Path) -> None:
    of = said(written(tmp_path / "a.tif", regions(60, 50), place=place))["place"]
    assert (of.crs, of.is_point, of.points_crs) == (place.crs, place.is_point, place.points_crs)
    assert [(p.row, p.col, p.x, p.y) for p in of.points] == [(p.row, p.col, p.x, p.y) for p in place.points]
    if place.transform is None:
        assert of.transform is None
    else:
        assert of.transform.almost_equals(place.transform)


@pytest.mark.parametrize(
    ("classes", "ignore_index", "dtype", "nodata"),
    [(3, 0, "uint8", 255), (3, 9, "uint8", 9), (255, 255, "uint8", 255), (256, 255, "uint16", 65535),
     (300, 300, "uint16", 300), (3, -1, "uint8", 255)],
)  # fmt: skip
def test_nodata_is_no_class(classes: int, ignore_index: int, dtype: str, nodata: int, tmp_path: Path) -> None:
    info = DatasetInfo(tuple(map(str, range(classes))), ignore_index, default_palette(classes))
    labels = regions(60, 50).astype(dtype)
    labels[0, 0] = classes - 1
    of = said(written(tmp_path / "a.tif", labels, info))
    np.testing.assert_array_equal(of["labels"], labels)
    assert (of["labels"].dtype, of["nodata"]) == (dtype, nodata)
    assert (of["colours"] is None) == (dtype == "uint16")


def test_a_missing_row_leaves_nothing(labels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1099 rows were given, and 1100 are expected"):
        write_cog(tmp_path / "a.tif", bands(labels[:-1]), labels.shape, INFO, PLACE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_named_and_the_file_of_before_stays(labels: np.ndarray, tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", labels)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(DiskFullError, match=rf"{path} cannot be written: GDAL says .* MiB are free. Make room"):
            written(path, labels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
