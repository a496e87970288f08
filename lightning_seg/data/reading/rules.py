"""Holds what the user allows images and masks to be: ``data.max_pixels`` and ``data.value_range``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.errors import ConfigError, UnfitImageError
from lightning_seg.sources import AnyFile

MAX_PIXELS = 1_000_000_000
"""As RGB, this is 3 GB. A file of some kilobytes can claim to be of any size."""

Image.MAX_IMAGE_PIXELS = None  # one limit, not two: Pillow's own would refuse what data.max_pixels allows


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """Says what may be read, and how values of more than 8 bits become bytes.

    Attributes:
        ranges: lowest and highest value, one pair for all bands or one for each of three; None: images have 8 bits.
        max_pixels: height × width of the largest image or mask.
    """

    ranges: tuple[tuple[float, float], ...] | None = None
    max_pixels: int = MAX_PIXELS

    @classmethod
    def of_settings(cls, value_range: Sequence[float | Sequence[float]] | None, max_pixels: int) -> "ReadingRules":
        """Make rules of ``data.value_range`` and ``data.max_pixels`` as a user writes them.

        Raises:
            ConfigError: if ``value_range`` is no range.
        """
        if max_pixels < 1:
            raise ConfigError(f"data.max_pixels is {max_pixels}, but must be at least 1")
        if value_range is None:
            return cls(None, max_pixels)
        nested = all(isinstance(entry, Sequence) for entry in value_range)
        pairs: list[Any] = list(value_range) if nested else [value_range]
        if len(pairs) not in (1, 3) or not all(_is_range(pair) for pair in pairs):
            raise ConfigError(
                f"data.value_range is {value_range}, but must be two numbers, the lower one first, such as [0, 4095], "
                "or three such pairs, one a band"
            )
        return cls(tuple((float(low), float(high)) for low, high in pairs), max_pixels)

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
        """Map (H, W) or (H, W, 3) values to (H, W, 3) bytes.

        The ends of the range become 0 and 255, and so do values beyond them. NaN becomes 0.

        Raises:
            UnfitImageError: if ``data.value_range`` is not set; it names the range of the values.
        """
        if self.ranges is None:
            seen = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            low, high = (f"{end:.6g}" if seen.size else "nothing" for end in _extremes(seen))
            raise UnfitImageError(
                f"image {path} {described} with values from {low} to {high}, and networks take 0 to 255: set "
                f"data.value_range, such as [{low}, {high}], to the values that become 0 and 255, the same for all "
                "images, or convert the images"
            )
        ends = np.array(self.ranges, np.float64)
        planes = np.empty((*values.shape[:2], 3), np.uint8)
        for band in range(3):
            low, high = ends[band % len(ends)]
            plane = values if values.ndim == 2 else values[..., band]
            planes[..., band] = _scaled(plane, low, high)
        return planes


USUAL = ReadingRules()
"""8 bits and the usual limit."""


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
