"""Polygons of bands: those of the whole label map, each as soon as it is closed."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import shapely
from rasterio.features import shapes
from shapely.geometry import shape

from lightning_seg.geo.polygons import LabelPolygon, label_polygons
from tests.geo.rasters import regions

NODATA = 255


def cut(labels: np.ndarray, *rows: int) -> Iterator[np.ndarray]:
    ends = [0, *rows, len(labels)]
    return (labels[start:stop] for start, stop in pairwise(ends))


def independent(labels: np.ndarray) -> Counter[tuple[int, int, str]]:
    """GDAL's polygons of the whole map at once: class, pixels and outline."""
    found = [(int(label), shape(outline)) for outline, label in shapes(labels, labels != NODATA, 4)]
    return Counter((label, round(o.area), shapely.normalize(shapely.make_valid(o)).wkt) for label, o in found)


def counted(polygons: list[LabelPolygon]) -> Counter[tuple[int, int, str]]:
    return Counter((p.label, p.pixels, shapely.normalize(p.geometry).wkt) for p in polygons)


@pytest.mark.parametrize("seed", range(12))
def test_bands_give_the_polygons_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2)
    labels = regions(height, width, int(rng.integers(1, 5)), seed, side=1 + 4 * (seed % 2))
    labels[rng.random(labels.shape) < 0.1] = NODATA
    rows = sorted(set(rng.integers(1, height, 4).tolist())) if height > 1 else []
    polygons = list(label_polygons(cut(labels, *rows), NODATA))
    assert counted(polygons) == independent(labels)
    assert sum(polygon.pixels for polygon in polygons) == (labels != NODATA).sum()
    assert all(polygon.geometry.is_valid for polygon in polygons)


@pytest.mark.parametrize("rows", [(), (4,), (1, 2, 3, 4, 5, 6, 7)])
def test_arms_of_one_region_meet_in_a_later_band(rows: tuple[int, ...]) -> None:
    """A comb, whose teeth meet at the bottom, with a ring inside a ring beside it."""
    labels = np.zeros((8, 16), np.uint8)
    labels[:7, :7:2] = 1
    labels[7, :7] = 1
    labels[0:7, 8:15] = 2
    labels[1:6, 9:14] = 0
    labels[2:5, 10:13] = 2
    labels[3, 11] = NODATA
    polygons = list(label_polygons(cut(labels, *rows), NODATA))
    assert counted(polygons) == independent(labels)
    assert sorted((p.label, p.pixels, len(p.geometry.interiors)) for p in polygons if p.label) == [
        (1, 35, 0), (2, 8, 1), (2, 24, 1)
    ]  # fmt: skip


def test_classes_above_255() -> None:
    labels = regions(20, 20).astype(np.uint16) * 400
    assert {p.label for p in label_polygons(cut(labels, 9), NODATA)} == {0, 400, 800}


def test_polygons_are_given_away_once_they_are_closed() -> None:
    asked = []

    def endless() -> Iterator[np.ndarray]:
        for row in range(1000):
            asked.append(row)
            yield np.full((2, 4), row // 2 % 2, np.uint8)

    polygons = label_polygons(endless(), NODATA)
    assert [next(polygons).pixels for _ in range(3)] == [16, 16, 16]
    assert len(asked) < 10


def test_a_map_of_nodata_has_no_polygon() -> None:
    assert list(label_polygons(cut(np.full((9, 9), NODATA, np.uint8), 4), NODATA)) == []
