"""Adds up the values of images, band by band: exact means and deviations, percentiles, extremes.

Sums are whole numbers or fractions, so that they are the same in any order and however many processes count.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PERCENTS = (0, 2, 50, 98, 100)
"""Of these, percentiles are shown."""

FLOAT_ERROR = 2.0**-12
"""Greatest relative error of a percentile of floats, other than 0 and 100, which are exact."""

_DROPPED = 12
"""Bits of a float that its key leaves out; the other 20 are its sign, its exponent and 11 bits of its fraction."""

_SORTED = 2**16
"""Up to this many values are sorted to be counted; for more, there is a counter for each key."""

_BLOCK = 2**22
"""Values that are counted at once: bounds memory, and OpenCV counts exactly up to 2²⁴."""

_CHANNELS = 4
"""Up to this many channels are given to OpenCV at once; how many it takes depends on its version."""


@dataclass(frozen=True, slots=True)
class BandValues:
    """The values of one band of an image.

    Attributes:
        keys: distinct, in order: whole numbers themselves, shifted so that none is negative, or the first bits of
            floats.
        counts: how many values have each key, int64.
        total: sum of the values.
        squares: sum of their squares.
        low: the least value; infinite where there is none.
        high: the greatest one.
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    total: Fraction | int
    squares: Fraction | int
    low: float
    high: float

    @property
    def is_constant(self) -> bool:
        """Whether there are at least two values, and all are one."""
        return self.low == self.high and int(self.counts.sum()) > 1


@dataclass(frozen=True, slots=True)
class PixelValues:
    """The values of an image.

    Attributes:
        type: NumPy's name of their type: uint8, uint16, int16 or float32.
        bands: of each band.
    """

    type: str
    bands: tuple[BandValues, ...]

    @property
    def are_absent(self) -> bool:
        """Whether no band has a value."""
        return not any(len(band.keys) for band in self.bands)


def count_values(pixels: NDArray[Any], absent: NDArray[np.bool_] | None = None) -> PixelValues:
    """Count the values of an image.

    Args:
        pixels: (H, W, C) uint8, uint16, int16 or float32. Values that are not finite are left out.
        absent: (H, W), pixels that are left out.
    """
    kept = pixels if absent is None else pixels[~absent][:, None]
    if pixels.dtype == np.uint8:
        return PixelValues("uint8", tuple(_of_counts(counts, 0) for counts in _count_bytes(kept)))
    count = _count_floats if pixels.dtype.kind == "f" else _count_whole_numbers
    return PixelValues(pixels.dtype.name, tuple(count(kept[..., band]) for band in range(kept.shape[2])))


def _count_bytes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many values of each band, (C, 256); three times as fast as ``numpy.bincount``."""
    counts = np.zeros((pixels.shape[2], 256), np.int64)
    flat = np.ascontiguousarray(pixels).reshape(-1, 1, len(counts))
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        for band in range(len(counts)):
            few = len(counts) <= _CHANNELS
            part, place = (block, band) if few else (np.ascontiguousarray(block[..., band]), 0)
            counts[band] += cv2.calcHist([part], [place], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def _count_whole_numbers(plane: NDArray[Any]) -> BandValues:
    shift = int(np.iinfo(plane.dtype).min)
    counts = np.zeros(2**16, np.int64)
    if plane.size <= _SORTED:
        values, found = np.unique(plane, return_counts=True)
        counts[values.astype(np.int64) - shift] = found
    else:
        for block in _blocks(plane):
            keys = block.view(np.uint16) ^ np.uint16(-shift)  # of a signed number, its highest bit is turned
            counts += np.bincount(keys, minlength=2**16)
    return _of_counts(counts, shift)


def _of_counts(counts: NDArray[np.int64], shift: int) -> BandValues:
    keys = np.flatnonzero(counts)
    counts, values = counts[keys], keys + shift
    total, squares = int(counts @ values), int(counts.astype(np.uint64) @ (values**2).astype(np.uint64))
    low, high = (float(values[0]), float(values[-1])) if len(values) else (np.inf, -np.inf)
    return BandValues(keys, counts, total, squares, low, high)


def _count_floats(plane: NDArray[np.float32]) -> BandValues:
    """Sum in 64 bits, around the mean of each block, which no large mean spoils."""
    total = squares = Fraction(0)
    low, high = np.inf, -np.inf
    totals = _Counter()
    for block in _blocks(plane):
        values = block[np.isfinite(block)]
        if not values.size:
            continue
        mean = values.mean(dtype=np.float64)
        offsets = values - mean
        centre, rest = Fraction(float(mean)), Fraction(float(offsets.sum()))
        total += values.size * centre + rest
        squares += values.size * centre**2 + 2 * centre * rest + Fraction(float(np.square(offsets).sum()))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        totals.add(*_distinct(_keys_of_floats(values)))
    return BandValues(*totals.distinct, total, squares, low, high)


def _blocks(plane: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = plane.ravel()
    return (flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK))


def _distinct(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if keys.size <= _SORTED:
        return np.unique(keys, return_counts=True)
    first = keys.min()
    counts = np.bincount(keys - first)
    places = np.flatnonzero(counts)
    return places + first, counts[places]


def _keys_of_floats(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers of 20 bits in the order of the values."""
    bits = values.view(np.int32)
    flipped = (bits >> 31) | np.int32(-(2**31))  # all bits of a negative number, the sign of another
    return ((bits ^ flipped).view(np.uint32) >> np.uint32(_DROPPED)).astype(np.int64)


def _floats_of_keys(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """The middle of the floats that have a key."""
    ordered = (keys << _DROPPED) + (1 << _DROPPED - 1)
    bits = np.where(ordered < 2**31, ~ordered, ordered ^ 2**31) & 0xFFFFFFFF
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


class _Counter:
    """Counts keys; it takes 8 bytes for each from the least to the greatest, which are at most 2²⁰."""

    def __init__(self) -> None:
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add distinct keys in order."""
        if not len(keys):
            return
        first, end = int(keys[0]), int(keys[-1]) + 1
        if len(self._counts):
            first, end = min(first, self._first), max(end, self._first + len(self._counts))
        if end - first > len(self._counts):
            wider = np.zeros(end - first, np.int64)
            wider[self._first - first :][: len(self._counts)] = self._counts
            self._first, self._counts = first, wider
        self._counts[keys - self._first] += counts

    @property
    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys that were counted, in order, and how often."""
        places = np.flatnonzero(self._counts)
        return places + self._first, self._counts[places]


class BandTotals:
    """The values of one band of many images."""

    def __init__(self, type: str) -> None:
        self._type = np.dtype(type)
        self._counter = _Counter()
        self._total: Fraction | int = 0
        self._squares: Fraction | int = 0
        self.count = 0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: BandValues) -> None:
        self._counter.add(values.keys, values.counts)
        self._total += values.total
        self._squares += values.squares
        self.count += int(values.counts.sum())
        self.low, self.high = min(self.low, values.low), max(self.high, values.high)

    @property
    def mean(self) -> float:
        """0 where there is no value."""
        return float(Fraction(self._total, max(1, self.count)))

    @property
    def std(self) -> float:
        """Standard deviation over all values, the root of the mean squared deviation."""
        count = max(1, self.count)
        variance = Fraction(self._squares, count) - Fraction(self._total, count) ** 2
        return math.sqrt(max(Fraction(0), variance))

    def percentiles(self, percents: Sequence[float] = PERCENTS) -> list[float]:
        """As ``numpy.percentile``: exact, but for floats, whose relative error is at most :data:`FLOAT_ERROR`.

        Returns:
            Zeros where there is no value.
        """
        if not self.count:
            return [0.0] * len(percents)
        keys, counts = self._counter.distinct
        ends = np.cumsum(counts)
        if self._type.kind == "f":
            values = np.clip(_floats_of_keys(keys), self.low, self.high)
        else:
            values = (keys + int(np.iinfo(self._type).min)).astype(np.float64)
        places = np.asarray(percents) / 100 * (self.count - 1)
        below, above = np.floor(places), np.ceil(places)

        def at(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
            found = values[np.searchsorted(ends, ranks, "right")]
            return np.select([ranks == 0, ranks == self.count - 1], [self.low, self.high], found)

        lower, upper = at(below), at(above)
        return [float(value) for value in lower + (upper - lower) * (places - below)]


class PixelTotals:
    """The values of many images of one type and number of bands.

    Attributes:
        type: NumPy's name of their type.
        bands: of each band.
        images: how many were added.
    """

    def __init__(self, type: str, bands: int) -> None:
        self.type = type
        self.bands = [BandTotals(type) for _ in range(bands)]
        self.images = 0

    def add(self, values: PixelValues) -> None:
        """Add an image of the same type and number of bands."""
        self.images += 1
        for band, more in zip(self.bands, values.bands, strict=True):
            band.add(more)

    @property
    def mean(self) -> list[float]:
        return [band.mean for band in self.bands]

    @property
    def std(self) -> list[float]:
        return [band.std for band in self.bands]
