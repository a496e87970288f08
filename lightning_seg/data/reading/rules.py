"""Holds what images and masks are to be: ``data.bands``, ``data.value_range`` and ``data.max_pixels``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.errors import ConfigError, UnfitImageError
from lightning_seg.sources import AnyFile

MAX_PIXELS = 1_000_000_000
"""As RGB, this is 3 GB. A file of some kilobytes can claim to be of any size."""

Image.MAX_IMAGE_PIXELS = None  # one limit, not two: Pillow's own would refuse what data.max_pixels allows

KEPT_TYPES = ("uint8", "uint16", "int16", "float32")
"""Types that an image keeps; every other is given as float32, which is what networks compute in."""


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """Says what may be read, which bands, and how values of more than 8 bits become bytes.

    Attributes:
        ranges: lowest and highest value, one pair for all bands or one for each; None: values stay as they are.
        max_pixels: height × width of the largest image or mask.
        bands: numbers of the bands that an image has, from 1; None: it is RGB of 8 bits.
        display_bands: those of them that pictures show; None: the first three, or the first.
        dtype: NumPy's name of the type that all images must have where ``bands`` is set; None: any.
        fill: what an image shows where a file has no data, a value a band; None: what is stored there.
    """

    ranges: tuple[tuple[float, float], ...] | None = None
    max_pixels: int = MAX_PIXELS
    bands: tuple[int, ...] | None = None
    display_bands: tuple[int, ...] | None = None
    dtype: str | None = None
    fill: tuple[float, ...] | None = None

    @classmethod
    def of_settings(
        cls,
        value_range: Sequence[float | Sequence[float]] | None,
        max_pixels: int,
        bands: Sequence[int] | None = None,
        display_bands: Sequence[int] | None = None,
    ) -> "ReadingRules":
        """Make rules of ``data.value_range``, ``max_pixels``, ``bands`` and ``display_bands`` as a user writes them.

        Raises:
            ConfigError: if ``value_range`` is no range, or bands cannot be those of a file.
        """
        if max_pixels < 1:
            raise ConfigError(f"data.max_pixels is {max_pixels}, but must be at least 1")
        _check_bands(bands, display_bands)
        shown = None if display_bands is None else tuple(display_bands)
        rules = cls(None, max_pixels, None if bands is None else tuple(bands), shown)
        if value_range is None:
            return rules
        nested = all(isinstance(entry, Sequence) for entry in value_range)
        pairs: list[Any] = list(value_range) if nested else [value_range]
        if not pairs or not all(_is_range(pair) for pair in pairs):
            raise ConfigError(
                f"data.value_range is {value_range}, but must be two numbers, the lower one first, such as [0, 4095], "
                f"or {rules.channels} such pairs, one a band"
            )
        if len(pairs) not in (1, rules.channels):
            whose = "images have 3 channels, RGB" if bands is None else f"data.bands names {len(bands)}"
            raise ConfigError(
                f"data.value_range has {len(pairs)} pairs, but {whose}: give one pair for all bands, "
                f"or {rules.channels}"
            )
        return replace(rules, ranges=tuple((float(low), float(high)) for low, high in pairs))

    @property
    def channels(self) -> int:
        """How many bands an image has that is read by these rules."""
        return 3 if self.bands is None else len(self.bands)

    def type_of(self, stored: str) -> str:
        """NumPy's name of the type that stored values of a type are given as."""
        if self.bands is None or self.ranges is not None:
            return "uint8"
        return stored if stored in KEPT_TYPES else "float32"

    def check_size(self, size: tuple[int, int], path: AnyFile, what: str) -> None:
        """Refuse more pixels than are allowed.

        Raises:
            UnfitImageError: if (height, width) are too many.
        """
        if size[0] * size[1] > self.max_pixels:
            raise UnfitImageError(
                f"{what} {path} is {size[1]}×{size[0]} pixels, but data.max_pixels allows {self.max_pixels}: "
                "raise it if the file is what it says and fits into memory"
            )

    def as_bytes(self, values: NDArray[Any], path: AnyFile, described: str) -> NDArray[np.uint8]:
        """Map (H, W) or (H, W, C) values to (H, W, C) bytes; a single band becomes three where no bands are named.

        The ends of the range become 0 and 255, and so do values beyond them. NaN becomes 0.

        Raises:
            UnfitImageError: if ``data.value_range`` is not set; it names the range of the values.
        """
        if self.ranges is None:
            seen = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            low, high = (f"{end:.6g}" if seen.size else "nothing" for end in _extremes(seen))
            example = f", such as [{low}, {high}]," if low != high else ""
            raise UnfitImageError(
                f"image {path} {described} with values from {low} to {high}, and networks take 0 to 255: set "
                f"data.value_range{example} to the values that become 0 and 255, the same for all images, or convert "
                "the images"
            )
        ends = np.array(self.ranges, np.float64)
        planes = np.empty((*values.shape[:2], self.channels), np.uint8)
        for band in range(self.channels):
            low, high = ends[band % len(ends)]
            plane = values if values.ndim == 2 else values[..., band]
            planes[..., band] = _scaled(plane, low, high)
        return planes


USUAL = ReadingRules()
"""8 bits and the usual limit."""


def _check_bands(bands: Sequence[int] | None, shown: Sequence[int] | None) -> None:
    if bands is not None and (not bands or min(bands) < 1 or len(set(bands)) < len(bands)):
        raise ConfigError(
            f"data.bands is {list(bands)}, but must name bands of the files, each once and counted from 1, such as "
            "[4, 3, 2]"
        )
    if shown is None:
        return
    if bands is None:
        raise ConfigError("data.display_bands says which of data.bands pictures show: set data.bands, or leave it out")
    if len(shown) not in (1, 3) or not set(shown) <= set(bands):
        raise ConfigError(
            f"data.display_bands is {list(shown)}, but must be three of data.bands {list(bands)}, or one of them"
        )


def _is_range(pair: Any) -> bool:
    numbers = len(pair) == 2 and all(isinstance(end, int | float) and np.isfinite(end) for end in pair)
    return numbers and pair[0] < pair[1]


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _scaled(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if plane.dtype == np.uint16:  # as many entries as there are values: a fifth of the arithmetic's time
        return np.asarray(_scaled(np.arange(2**16, dtype=np.float64), low, high)[plane])
    scaled = np.clip((plane.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
    return np.rint(np.nan_to_num(scaled)).astype(np.uint8)
