"""Says what the images of a data set hold, and what a transform makes of values that are no RGB of 8 bits."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]

_RGB = np.array([[200, 60, 60], [60, 190, 70], [70, 80, 210]], np.uint8)
_PLACES = np.array([[0.95, 0.05, 0.5], [0.05, 0.5, 0.95], [0.5, 0.95, 0.05]])
"""Colours of three classes in other images, from the lowest value to the highest; more channels repeat them."""
_NOISE = 0.04
"""Height of the noise on these colours, as part of the range: it has more values than bytes have."""
_LEVELS = 256
_SAMPLED = 20_000


@dataclass(frozen=True, slots=True)
class Pixels:
    """What images hold.

    Attributes:
        channels: how many they have.
        dtype: NumPy's name of their type: uint8, uint16, int16 or float32.
        low, high: between which their values lie, but for few.
    """

    channels: int = 3
    dtype: str = "uint8"
    low: float = 0.0
    high: float = 255.0

    def __str__(self) -> str:
        count = "one band" if self.channels == 1 else f"{self.channels} bands"
        return f"{count} of {self.dtype} with values from {self.low:.6g} to {self.high:.6g}"

    @property
    def is_rgb(self) -> bool:
        """Whether they are what all transforms are made for."""
        return self.channels == 3 and self.dtype == "uint8"

    @property
    def contrast(self) -> float:
        """The smallest difference of values that is one: 16 grey levels of 8 bits."""
        return 16 / 255 * (self.high - self.low)

    def painted(self, classes: NDArray[np.integer[Any]], columns: Any, rows: Any, draw: np.random.Generator) -> Image:
        """An image whose blocks show their class, of 0 to 2, in its colour.

        Args:
            classes: (n, m) of the blocks.
            columns: (m,) width of each block, in pixels.
            rows: (n,) their heights.
            draw: of the noise.
        """
        if self.is_rgb:
            return np.asarray(_RGB[classes.repeat(columns, axis=1)].repeat(rows, axis=0))
        span = self.high - self.low
        colours = self.low + span * _PLACES[:, np.arange(self.channels) % 3]
        image: Image = colours.astype(np.float32)[classes.repeat(columns, axis=1)].repeat(rows, axis=0)
        image += span * _NOISE * (draw.random((*image.shape[:2], 1), np.float32) - 0.5)
        return np.asarray(image, self.dtype)


@dataclass
class Values:
    """What a transform makes of the values of images that are no RGB of 8 bits.

    Args:
        pixels: what the images hold.
    """

    pixels: Pixels
    _ranges: list[tuple[float, float]] = field(default_factory=list)
    _changed: set[tuple[int, ...]] = field(default_factory=set)
    _levels: int = 0

    def see(self, before: Image, after: Image) -> None:
        """Look at an image and what became of it; both have the type and channels that they must have."""
        self._ranges.append((float(after.min()), float(after.max())))
        self._levels = max(self._levels, _count_levels(after[..., 0].ravel()))
        if before.shape == after.shape:
            self._changed.add(tuple(np.flatnonzero((before != after).any(axis=(0, 1))).tolist()))

    def fault(self) -> str | None:
        """What is wrong with it, to follow the transform's name; None: nothing."""
        pixels, ranges = self.pixels, np.array(self._ranges)
        if not np.isfinite(ranges).all():
            return f"returns NaN or infinite values for {pixels}"
        span, found = pixels.high - pixels.low, f"{ranges.min():.6g} to {ranges.max():.6g}"
        if ranges.min() < min(0, pixels.low) - span or ranges.max() > max(0, pixels.high) + span:
            known = "0 and 1" if pixels.dtype == "float32" else "those of its type"
            return f"returns values from {found} for {pixels}, since it knows no limits but {known}"
        for bound in (1.0, 255.0):  # what stands beyond is cut off, or scaled
            lost = max(0.0, -pixels.low) + max(0.0, pixels.high - bound)
            if ranges.min() >= 0 and ranges.max() <= bound and lost > span / 4:
                return f"returns values from {found} for {pixels}, since it takes images to lie between 0 and {bound:g}"
        if pixels.dtype != "uint8" and self._levels <= _LEVELS:
            return f"leaves no more than {_LEVELS} different values of {pixels}, since it computes in 8 bits"
        if pixels.channels > 3 and self._changed == {(0, 1, 2)}:
            return f"changes the first three of {pixels.channels} bands alone"
        return None


def _count_levels(values: NDArray[Any]) -> int:
    """How many values there are, up to :data:`_LEVELS` exactly; beyond, at least how many."""
    few = len(np.unique(values[:: len(values) // _SAMPLED + 1]))
    return few if few > _LEVELS else len(np.unique(values))
