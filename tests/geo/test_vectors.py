"""Polygons as files: what other programs read of them."""

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.transform import from_origin

from lightning_seg.errors import ConfigError, DiskFullError
from lightning_seg.geo import vectors
from lightning_seg.geo.georeference import Georeference
from lightning_seg.geo.polygons import label_polygons
from lightning_seg.geo.vectors import write_polygons
from tests.geo.rasters import INFO, UTM

UTM_32 = Georeference(CRS.from_string(UTM["crs"]), UTM["transform"])
DEGREES = Georeference(CRS.from_epsg(4326), from_origin(7, 46, 1e-3, 1e-3))
FEET = Georeference(CRS.from_epsg(2263), from_origin(1e6, 2e5, 2, 2))
LABELS = np.zeros((20, 30), np.uint8)
LABELS[4:10, 5:25] = 2
LABELS[6:8, 7:9] = 255
LABELS[15:, :3] = 1


def written(path: Path, place: Georeference, labels: np.ndarray = LABELS, simplify: float = 0.0) -> int:
    return write_polygons(path, label_polygons(iter([labels[:7], labels[7:]]), 255), INFO.names, place, simplify)


def rows(path: Path) -> list[dict[str, Any]]:
    about, _, shapes, columns = pyogrio.raw.read(path)
    found = zip(shapely.from_wkb(shapes), *columns, strict=True)
    return sorted(
        ({"outline": outline, **dict(zip(about["fields"], values, strict=True))} for outline, *values in found),
        key=lambda row: row["class_id"],
    )


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_row_says_class_pixels_and_area(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep/a{suffix}"
    assert written(path, UTM_32) == 3
    found = rows(path)
    assert [row["class_id"] for row in found] == [0, 1, 2]
    assert [row["class"] for row in found] == list(INFO.names)
    assert [row["pixels"] for row in found] == [600 - 120 - 15, 15, 116]
    assert [row["area_m2"] for row in found] == [row["pixels"] / 4 for row in found]
    assert [len(row["outline"].interiors) for row in found] == [1, 0, 1]
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_a_geopackage_has_the_coordinates_of_the_image(tmp_path: Path) -> None:
    written(tmp_path / "a.gpkg", UTM_32)
    about = pyogrio.read_info(tmp_path / "a.gpkg")
    assert (about["crs"], about["geometry_type"], about["layer_name"]) == ("EPSG:32632", "Polygon", "labels")
    assert about["total_bounds"] == (500_000, 5_000_000 - 10, 500_000 + 15, 5_000_000)
    outline = rows(tmp_path / "a.gpkg")[2]["outline"]
    assert outline.bounds == (500_002.5, 4_999_995, 500_012.5, 4_999_998)
    assert outline.area == 29


def test_a_geojson_has_longitudes_and_latitudes(tmp_path: Path) -> None:
    written(tmp_path / "a.geojson", UTM_32)
    west, south, east, north = pyogrio.read_info(tmp_path / "a.geojson")["total_bounds"]
    assert (west, north) == pytest.approx((9.0, 45.1534772), abs=2e-7)  # the zone's meridian
    assert (east - west) * 78_850 == pytest.approx(15, rel=0.01)
    assert (north - south) * 111_140 == pytest.approx(10, rel=0.01)
    said = json.loads((tmp_path / "a.geojson").read_text())
    for feature in said["features"]:
        outer, *holes = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(outer).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_areas_are_square_metres_or_absent(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    written(path, FEET)
    assert rows(path)[1]["area_m2"] == pytest.approx(15 * 4 * 0.3048006**2, rel=1e-6)
    for place in (DEGREES, Georeference()):
        written(path, place)
        area = rows(path)[1]["area_m2"]
        assert area is None or np.isnan(area)
        bounds = pyogrio.read_info(path)["total_bounds"]
        expected = (0, 0, 30, 20) if place.transform is None else (7, 45.98, 7.03, 46)
        assert bounds == pytest.approx(expected, abs=1e-9)


def test_outlines_are_simplified_by_pixels(tmp_path: Path) -> None:
    stairs = np.tri(40, 40, dtype=np.uint8)
    points = {}
    for simplify in (0.0, 2.0):
        written(tmp_path / "a.gpkg", UTM_32, stairs, simplify)
        upper, lower = rows(tmp_path / "a.gpkg")
        points[simplify] = len(lower["outline"].exterior.coords)
        assert (upper["pixels"], lower["pixels"]) == (780, 820)
        assert lower["outline"].area == pytest.approx(820 / 4, rel=0.1)
    assert points[0.0] > 80
    assert points[2.0] < 10


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_batches_and_repetitions_make_one_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    count = written(tmp_path / f"a{suffix}", UTM_32, noise)
    monkeypatch.setattr(vectors, "_BATCH", 100)
    assert written(tmp_path / f"b{suffix}", UTM_32, noise) == count > 200
    assert written(tmp_path / f"c{suffix}", UTM_32, noise) == count
    read = [pyogrio.raw.read(tmp_path / f"{name}{suffix}") for name in "abc"]
    assert [len(each[2]) for each in read] == [count] * 3
    assert (read[0][2] == read[1][2]).all()
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"c{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_no_polygon_makes_an_empty_file(suffix: str, tmp_path: Path) -> None:
    assert written(tmp_path / f"a{suffix}", UTM_32, np.full((20, 30), 255, np.uint8)) == 0
    assert pyogrio.read_info(tmp_path / f"a{suffix}")["features"] == 0


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.shp: give a name that ends in \.gpkg or \.geojson"):
        written(tmp_path / "a.shp", UTM_32)
    with pytest.raises(ConfigError, match="simplified by -1 pixels: give 0 or more"):
        written(tmp_path / "a.gpkg", UTM_32, simplify=-1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_full_disk_is_named(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (60, 60)).astype(np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, limits[1]))
    try:
        with pytest.raises(DiskFullError, match=rf"{tmp_path}/a{suffix} cannot be written: .*MiB are free.* Make room"):
            written(tmp_path / f"a{suffix}", UTM_32, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
