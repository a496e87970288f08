"""Reads where the pixels of a GeoTIFF lie on the earth, from its tags alone."""

import struct
from dataclasses import dataclass

from lightning_seg.data.reading.directories import Tag, read_directories
from lightning_seg.data.reading.storage import open_file
from lightning_seg.data.reading.tiff import MAGICS
from lightning_seg.sources import AnyFile

_SCALE, _TIEPOINTS, _TRANSFORM, _KEYS = 33550, 33922, 34264, 34735
_DOUBLES = {12: "Q"}
"""Doubles are read as the 64 bits that they are stored in."""
_SHORTS = {3: "H"}

_MODEL, _RASTER, _GEOGRAPHIC_CRS, _PROJECTED_CRS, _UNIT = 1024, 1025, 2048, 3072, 3076
"""Keys of the GeoTIFF standard (OGC 19-008r4)."""
_IS_GEOGRAPHIC, _IS_POINT, _OWN = 2, 2, 32767
_UNITS = {9001: "m", 9002: "ft", 9003: "US survey ft"}

SAME = 0.1
"""Two grids are one if no corner of an image lies further apart than this part of a pixel."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of an image lie.

    Attributes:
        transform: ``(x, y) = (a·column + b·row + c, d·column + e·row + f)``, from the upper left corner of the first
            pixel, as ``(a, b, c, d, e, f)``.
        epsg: the EPSG code of the reference system; None where the file describes one of its own, or none.
        unit: of the coordinates: ``°``, ``m`` or ``ft``; ``units`` where the file does not say.
    """

    transform: tuple[float, float, float, float, float, float]
    epsg: int | None
    unit: str

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel on the ground, in the unit of the coordinates."""
        a, b, _, d, e, _ = self.transform
        return float((a * a + d * d) ** 0.5), float((b * b + e * e) ** 0.5)

    @property
    def described(self) -> str:
        """The size of a pixel, for messages.

        >>> Grid((10.0, 0.0, 300000.0, 0.0, -10.0, 5e6), 32632, "m").described
        '10 × 10 m'
        """
        width, height = self.pixel_size
        return f"{width:.6g} × {height:.6g} {self.unit}"

    def difference(self, other: "Grid", size: tuple[int, int]) -> str | None:
        """What differs between two grids of images of one size (height, width); None where nothing does."""
        if None not in (self.epsg, other.epsg) and self.epsg != other.epsg:
            return f"EPSG:{self.epsg} and EPSG:{other.epsg}"
        corners = [(column, row) for row in (0, size[0]) for column in (0, size[1])]
        gap = max(
            abs(one - another)
            for corner in corners
            for one, another in zip(self._at(*corner), other._at(*corner), strict=True)
        )
        if gap <= SAME * max(self.pixel_size):
            return None
        return f"up to {gap:.6g} {self.unit} apart, with pixels of {self.described} and {other.described}"

    def _at(self, column: float, row: float) -> tuple[float, float]:
        a, b, c, d, e, f = self.transform
        return a * column + b * row + c, d * column + e * row + f


def read_grid(path: AnyFile) -> Grid | None:
    """Read the grid of a file; None where it is no TIFF, or does not say where it lies.

    Raises:
        OSError, ValueError, …: if it cannot be opened, or its first directory is cut off.
    """
    with open_file(path) as file:
        if file.read(4) not in MAGICS:
            return None
        shorts = next(read_directories(file, (_KEYS,), _SHORTS), {})
        doubles = next(read_directories(file, (_SCALE, _TIEPOINTS, _TRANSFORM), _DOUBLES), {})
    keys = _keys(shorts)
    transform = _transform(doubles)
    if transform is None:
        return None
    if keys.get(_RASTER) == _IS_POINT:  # coordinates are those of a pixel's middle
        a, b, c, d, e, f = transform
        transform = (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    code = keys.get(_PROJECTED_CRS, keys.get(_GEOGRAPHIC_CRS))
    is_geographic = keys.get(_MODEL) == _IS_GEOGRAPHIC
    unit = "°" if is_geographic else _UNITS.get(keys.get(_UNIT, 9001 if code is not None else 0), "units")
    return Grid(transform, None if code == _OWN else code, unit)


def _keys(tags: dict[int, Tag]) -> dict[int, int]:
    """Those keys whose values are short numbers in the directory itself."""
    stored = tags[_KEYS].values if _KEYS in tags else ()
    entries = (stored[start : start + 4] for start in range(4, len(stored) - 3, 4))
    return {key: value for key, place, count, value in entries if place == 0 and count == 1}


def _transform(tags: dict[int, Tag]) -> tuple[float, float, float, float, float, float] | None:
    if len(matrix := _doubles(tags, _TRANSFORM)) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
        return a, b, c, d, e, f
    scale, tie = _doubles(tags, _SCALE), _doubles(tags, _TIEPOINTS)
    if len(scale) < 2 or len(tie) < 6:
        return None
    column, row, _, x, y, _ = tie[:6]
    return scale[0], 0.0, x - column * scale[0], 0.0, -scale[1], y + row * scale[1]


def _doubles(tags: dict[int, Tag], number: int) -> tuple[float, ...]:
    stored = tags[number].values if number in tags else ()
    return struct.unpack(f"{len(stored)}d", struct.pack(f"{len(stored)}Q", *stored))
