"""Regions of a label map as polygons, traced band by band and joined exactly where a region crosses a border."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.transform import Affine

from lightning_seg.geo.joining import Rings, joined

_NONE = -1


class LabelPolygon(NamedTuple):
    """A region of pixels of one class that touch each other by their sides.

    Attributes:
        label: the class id.
        geometry: its outline, in pixels of the image: x to the right, y downward, (0, 0) the upper left corner.
        pixels: how many there are.
    """

    label: int
    geometry: shapely.Polygon
    pixels: int


def label_polygons(bands: Iterable[NDArray[Any]], nodata: int) -> Iterator[LabelPolygon]:
    """Polygons of all regions, each as soon as no row below can belong to it.

    Memory holds a band and the outlines of the regions that reach its last row.

    Args:
        bands: (rows, W) labels from the top, of any number of rows, all of one width.
        nodata: the label of pixels that belong to no polygon.

    Yields:
        What ``rasterio.features.shapes`` with connectivity 4 makes of the whole label map: the same number of
        polygons of the same areas, valid, and without points on straight lines.
    """
    growing = _Regions()
    above: tuple[NDArray[Any], NDArray[np.int64]] | None = None
    row = 0
    for labels in bands:
        end = row + len(labels)
        top, bottom = (np.full(labels.shape[1], _NONE) for _ in range(2))
        for label, rings in _pieces(labels, nodata, row):
            first, last = rings[0][:, 1].min(), rings[0][:, 1].max()
            at_top, at_bottom = row > 0 and first == row, last == end
            if not at_top and not at_bottom:
                yield _polygon(label, rings)
                continue
            region = growing.add(label, rings)
            for is_there, line, regions in ((at_top, row, top), (at_bottom, end, bottom)):
                for left, right in _runs_on(rings[0], line) if is_there else ():
                    regions[left:right] = region
        if above is not None:
            same = (above[0] == labels[0]) & (top != _NONE)
            for pair in np.unique(np.stack([above[1][same], top[same]], 1), axis=0).tolist():
                growing.join(*pair)
        yield from growing.all_but(set(bottom[bottom != _NONE].tolist()), row)
        above = labels[-1], bottom
        row = end
    yield from growing.all_but(set(), row)


class _Regions:
    """Regions that may go on below, with their pieces."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}
        self._pieces: dict[int, list[Rings]] = {}
        self._labels: dict[int, int] = {}
        self._count = 0
        self._lines = [0]

    def add(self, label: int, piece: Rings) -> int:
        """A new region of one piece, by its number."""
        number, self._count = self._count, self._count + 1
        self._parents[number], self._pieces[number], self._labels[number] = number, [piece], label
        return number

    def join(self, one: int, other: int) -> None:
        """Two regions are one."""
        kept, given = sorted((self._root(one), self._root(other)))
        if kept != given:
            self._parents[given] = kept
            self._pieces[kept] += self._pieces.pop(given)

    def all_but(self, open_numbers: set[int], line: int) -> Iterator[LabelPolygon]:
        """Give away all regions but those that still grow, by the pieces of a band that begins at a line."""
        self._lines.append(line)
        numbers = {number: self._root(number) for number in open_numbers}
        still = set(numbers.values())
        for root in sorted(self._pieces.keys() - still):
            yield _polygon(self._labels[root], joined(self._pieces.pop(root), self._lines))
        self._parents = {**numbers, **{root: root for root in still}}
        self._labels = {root: self._labels[root] for root in still}

    def _root(self, number: int) -> int:
        while (parent := self._parents[number]) != number:
            self._parents[number] = self._parents[parent]
            number = parent
        return number


def _pieces(labels: NDArray[Any], nodata: int, row: int) -> Iterator[tuple[int, Rings]]:
    for outline, label in shapes(labels, labels != nodata, 4, Affine.translation(0, row)):
        yield int(label), [np.array(ring, np.int64) for ring in outline["coordinates"]]


def _polygon(label: int, rings: Rings) -> LabelPolygon:
    outline = shapely.Polygon(rings[0], rings[1:])
    return LabelPolygon(label, outline, round(outline.area))


def _runs_on(ring: NDArray[np.int64], line: int) -> list[tuple[int, int]]:
    """From which to before which column a ring runs along a horizontal line."""
    flat = (ring[:-1, 1] == line) & (ring[1:, 1] == line)
    return [(min(pair), max(pair)) for pair in zip(ring[:-1, 0][flat], ring[1:, 0][flat], strict=True)]
