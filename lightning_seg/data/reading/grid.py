"""Compares where an image and its mask lie on the earth, by the tags of GeoTIFFs alone."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.data.reading.directories import Tag, read_directories
from lightning_seg.data.reading.storage import named, open_file
from lightning_seg.data.reading.tiff import MAGICS
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile

_WIDTH, _HEIGHT, _SCALE, _TIES, _MATRIX, _KEYS = 256, 257, 33550, 33922, 34264, 34735
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _UNIT = 1024, 1025, 2048, 3072, 3076
_IS_GEOGRAPHIC, _IS_POINT, _USER_DEFINED = 2, 2, 32767
_UNITS = {9001: "m", 9002: "ft", 9003: "US survey ft"}

_TOLERANCE = 0.01
"""By how much of a pixel corners may differ; programs write coordinates with rounding."""

Place = tuple[float, float]


class Grid(NamedTuple):
    """Where the pixels of an image lie.

    Attributes:
        matrix: a, b, c, d, e, f: a pixel's corner (column, row) lies at (a·column + b·row + c, d·column + e·row + f).
        code: EPSG's number of the coordinate reference system; None: it has none, or does not say.
        size: height and width.
        unit: of the places: ``°``, ``m`` or a foot; ``units`` where the file does not say.
    """

    matrix: tuple[float, float, float, float, float, float]
    code: int | None
    size: tuple[int, int]
    unit: str = "units"

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel on the ground."""
        a, b, _, d, e, _ = self.matrix
        return math.hypot(a, d), math.hypot(b, e)

    def at(self, column: float, row: float) -> Place:
        a, b, c, d, e, f = self.matrix
        return a * column + b * row + c, d * column + e * row + f


def grid_of(path: AnyFile, what: str) -> Grid | None:
    """The grid of a GeoTIFF; None: the file does not say, or by control points only.

    Raises:
        UnreadableError: if the file is missing or damaged.
    """
    with named(path, what), open_file(path) as file:
        if file.read(4) not in MAGICS:
            return None
        tags = next(read_directories(file, (_WIDTH, _HEIGHT, _SCALE, _TIES, _MATRIX, _KEYS)))
    keys = _keys(tags.get(_KEYS))
    matrix = _matrix(tags)
    if matrix is None or not {_WIDTH, _HEIGHT} <= tags.keys():
        return None
    if keys.get(_RASTER_TYPE) == _IS_POINT:  # coordinates are those of centres
        a, b, c, d, e, f = matrix
        matrix = (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    codes = [code for key in (_PROJECTED, _GEOGRAPHIC) if (code := keys.get(key, 0)) not in (0, _USER_DEFINED)]
    size = int(tags[_HEIGHT].values[0]), int(tags[_WIDTH].values[0])
    return Grid(matrix, codes[0] if codes else None, size, _unit(keys))


def grid_problem(image: AnyFile, mask: AnyFile) -> str | None:
    """What is wrong where image and mask are both georeferenced, and do not lie on the same grid; None: nothing.

    Where sizes differ, that says more. Of masks of classes, the first problem is told.

    Raises:
        UnreadableError: if a file is missing or damaged.
    """
    if isinstance(mask, ClassMasks):
        problems = (grid_problem(image, file) for _, file in mask.files)
        return next((problem for problem in problems if problem is not None), None)
    here = grid_of(mask, "mask")
    there = None if here is None else grid_of(image, "image")
    if here is None or there is None or here.size != there.size:
        return None
    if None not in (here.code, there.code) and here.code != there.code:
        difference = f"is in EPSG:{here.code}, but its image {image} in EPSG:{there.code}"
    elif (offset := _offset(here, there)) > _TOLERANCE:
        left, top = there.at(0, 0)
        own_left, own_top = here.at(0, 0)
        difference = (
            f"begins at ({own_left:.10g}, {own_top:.10g}), but its image {image} at ({left:.10g}, {top:.10g}), and "
            f"their pixels are up to {offset:.4g} pixels apart"
        )
    else:
        return None
    return f"mask {mask} {difference}: reproject it to the grid of its image, or correct what one of them says"


def refuse_other_grid(image: AnyFile, mask: AnyFile) -> None:
    """Raise a DataError with :func:`grid_problem`."""
    if (problem := grid_problem(image, mask)) is not None:
        raise DataError(problem)


def _offset(one: Grid, other: Grid) -> float:
    """How far corners of two grids of one size lie apart at most, in pixels."""
    a, b, _, d, e, _ = other.matrix
    side = max(abs(a) + abs(b), abs(d) + abs(e))
    height, width = one.size
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    apart = [max(abs(x - y) for x, y in zip(one.at(*at), other.at(*at), strict=True)) for at in corners]
    return max(apart) / side if side > 0 else 0.0


def _unit(keys: dict[int, int]) -> str:
    if keys.get(_MODEL_TYPE) == _IS_GEOGRAPHIC:
        return "°"
    return _UNITS.get(keys.get(_UNIT, 9001 if keys.get(_PROJECTED, 0) else 0), "units")


def _matrix(tags: dict[int, Tag]) -> tuple[float, float, float, float, float, float] | None:
    if _MATRIX in tags and len(values := tags[_MATRIX].values) == 16:
        return values[0], values[1], values[3], values[4], values[5], values[7]
    scale, ties = _values(tags, _SCALE), _values(tags, _TIES)
    if len(scale) < 2 or len(ties) != 6:
        return None
    column, row, _, x, y, _ = ties
    return scale[0], 0.0, x - scale[0] * column, 0.0, -scale[1], y + scale[1] * row


def _values(tags: dict[int, Tag], number: int) -> Sequence[float]:
    return tags[number].values if number in tags else ()


def _keys(tag: Tag | None) -> dict[int, int]:
    """The keys of a GeoTIFF whose values are numbers."""
    values = () if tag is None else tag.values
    entries = (values[start : start + 4] for start in range(4, len(values) - 3, 4))
    return {key: value for key, place, _, value in entries if place == 0}
