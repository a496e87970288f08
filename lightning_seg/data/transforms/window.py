"""Crops a scaled and padded image at the cost of the crop; the plain equivalent is resize, pad and slice."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading import REDUCTIONS
from lightning_seg.data.reading.bands import MOST_FOR_OPENCV

Array = NDArray[Any]

_EXACT_POSITIONS = int(cv2.__version__.split(".", maxsplit=1)[0]) >= 5
"""Whether ``cv2.warpAffine`` samples where it is told to; OpenCV 4 rounds positions to 1/32 of a pixel."""

_RESIZE_COST = 0.45
"""Time that ``cv2.resize`` takes for a pixel, in those that :func:`_sample` takes (OpenCV 5)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A crop along one axis of the scaled image.

    Attributes:
        scaled: length of the whole scaled image.
        length: of the crop.
        start: of the crop in the scaled image; negative where padding precedes it.
    """

    scaled: int
    length: int
    start: int

    @classmethod
    def draw(cls, scaled: int, length: int, uniform: Callable[[], float]) -> "Span":
        """Draw a crop: every place is equally likely; it is centred where the scaled image is shorter than the crop."""
        slack = scaled - length
        place = uniform()  # also where it decides nothing, so that the next number does not depend on the image
        return cls(scaled, length, int((slack + 1) * place) if slack > 0 else -(-slack // 2))

    @property
    def inside(self) -> slice:
        """The part of the scaled image that the crop shows."""
        return slice(max(0, self.start), min(self.scaled, self.start + self.length))

    @property
    def filled(self) -> slice:
        """Part of the crop that shows the scaled image; the rest is padding."""
        inside = self.inside
        return slice(inside.start - self.start, inside.stop - self.start)

    def sampling(self, length: int, extent: float) -> tuple[slice, float, float]:
        """What bilinear sampling needs of an unscaled axis of ``length`` pixels, if the image fills ``extent`` of them.

        Returns:
            the pixels that contribute, and step and offset of the sampling positions in them: pixel n of the part
            inside is at ``offset + n * step``, pixels' centres being at whole numbers.
        """
        inside, step = self.inside, extent / self.scaled
        first = (inside.start + 0.5) * step - 0.5
        last = first + (inside.stop - inside.start - 1) * step
        low, high = max(0, int(np.floor(first))), min(length, int(np.floor(last)) + 2)
        return slice(low, high), step, first - low

    def anchor(self, length: int) -> tuple[int, int]:
        """Where to cut both axes before the crop, so that scaling what follows gives what scaling the whole gives.

        There, borders of pixels of the scaled and the unscaled axis coincide.

        Returns:
            pixel of the scaled axis, and of the unscaled one of ``length`` pixels.
        """
        common = math.gcd(length, self.scaled)
        margin = -(-self.scaled // length)  # at a cut, this many pixels lack a neighbour for the interpolation
        count = max(0, self.inside.start - margin) // (self.scaled // common)
        return count * (self.scaled // common), count * (length // common)

    def nearest(self, length: int) -> NDArray[np.intp]:
        """For each pixel of the part inside, the index of the nearest of ``length`` unscaled ones, between centres."""
        ramp = np.arange(length, dtype=np.float32)[None]  # resized, it tells what cv2 takes, its rounding of ties too
        taken = cv2.resize(ramp, (self.scaled, 1), interpolation=cv2.INTER_NEAREST_EXACT)
        return taken[0, self.inside].astype(np.intp)


@dataclass(frozen=True, slots=True)
class Window:
    """A crop of an image that is first scaled, and then padded where it is smaller than the crop.

    Attributes:
        rows: of the crop.
        columns: of the crop.
        size: height and width of what is scaled. An image may also have one of
            :data:`~lightning_seg.data.reading.REDUCTIONS` of it.
    """

    rows: Span
    columns: Span
    size: tuple[int, int]

    def used(self, size: tuple[int, int], interpolation: int) -> tuple[slice, slice]:
        """Rows and columns that :meth:`of_image` reads of an image of that height and width."""
        if size == (self.rows.scaled, self.columns.scaled):
            return self.rows.inside, self.columns.inside
        if interpolation != cv2.INTER_LINEAR or not _EXACT_POSITIONS:
            return slice(0, size[0]), slice(0, size[1])
        rows, columns = self.rows.sampling(size[0], size[0])[0], self.columns.sampling(size[1], size[1])[0]
        if (anchors := self._anchors(size)) is not None:
            rows, columns = slice(anchors[0][1], rows.stop), slice(anchors[1][1], columns.stop)
        return rows, columns

    def of_image(self, image: Array, interpolation: int) -> Array:
        """The part inside of ``cv2.resize`` of the whole (H, W) or (H, W, C) image of uint8, uint16, int16 or float32.

        Bilinear values of uint8 may differ by one grey level, because ``cv2.resize`` rounds its weights to 11 bits;
        others by 1/10 000 of the contrast of neighbours.
        """
        if image.ndim == 3 and image.shape[2] == 1:  # cv2 drops the axis
            return self._of_few(image[..., 0], interpolation)[..., None]
        most = 4 if interpolation == cv2.INTER_AREA else MOST_FOR_OPENCV
        if image.ndim == 3 and image.shape[2] > most:
            groups = [np.ascontiguousarray(image[..., at : at + most]) for at in range(0, image.shape[2], most)]
            return np.concatenate([self._of_few(group, interpolation) for group in groups], axis=2)
        return self._of_few(image, interpolation)

    def _of_few(self, image: Array, interpolation: int) -> Array:
        """:meth:`of_image` of as many channels as OpenCV takes."""
        height, width = image.shape[:2]
        inside = (self.rows.inside, self.columns.inside)
        filled = self._filled((height, width))
        if (self.rows.scaled, self.columns.scaled) == filled:
            return image[inside]
        if filled == (height, width):
            if interpolation != cv2.INTER_LINEAR or not _EXACT_POSITIONS:
                return cv2.resize(image, (self.columns.scaled, self.rows.scaled), interpolation=interpolation)[inside]
            anchors = self._anchors((height, width))
        else:
            anchors = None
            if interpolation != cv2.INTER_LINEAR:
                across, down = self.columns.scaled / filled[1], self.rows.scaled / filled[0]
                scaled = cv2.resize(image, None, fx=across, fy=down, interpolation=interpolation)
                if scaled.shape != image.shape:  # else as below
                    return np.asarray(scaled[inside])
        if anchors is not None:
            used = image[self.used((height, width), interpolation)]
            scaled = cv2.resize(used, None, fx=self.columns.scaled / width, fy=self.rows.scaled / height)
            if scaled.shape != used.shape:  # else cv2 took the factors, which are near 1, for 1
                return np.asarray(scaled[_back(inside[0], anchors[0][0]), _back(inside[1], anchors[1][0])])
        shown = (self.columns.inside.stop - self.columns.inside.start, self.rows.inside.stop - self.rows.inside.start)
        rows, step_y, offset_y = self.rows.sampling(height, filled[0])
        columns, step_x, offset_x = self.columns.sampling(width, filled[1])
        positions = np.array([[step_x, 0.0, offset_x], [0.0, step_y, offset_y]])
        return _sample(image[rows, columns], positions, shown)

    def _filled(self, size: tuple[int, int]) -> tuple[float, float]:
        """How many rows and columns of an image show something; the last one of a reduced image may in part."""
        for by in (1, *REDUCTIONS):
            if size == (-(-self.size[0] // by), -(-self.size[1] // by)):
                return self.size[0] / by, self.size[1] / by
        return size

    def _anchors(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Anchors of rows and columns, if ``cv2.resize`` from there is faster; else None."""
        rows, columns = self.rows.anchor(size[0]), self.columns.anchor(size[1])
        resized = (self.rows.inside.stop - rows[0]) * (self.columns.inside.stop - columns[0])
        shown = (self.rows.inside.stop - self.rows.inside.start) * (
            self.columns.inside.stop - self.columns.inside.start
        )
        return (rows, columns) if _RESIZE_COST * resized <= shown else None

    def of_mask(self, mask: Array) -> Array:
        """The part inside of ``cv2.resize`` of the whole (H, W) mask by ``INTER_NEAREST_EXACT``."""
        if mask.shape[:2] == (self.rows.scaled, self.columns.scaled):
            return mask[self.rows.inside, self.columns.inside]
        rows, columns = self.rows.nearest(mask.shape[0]), self.columns.nearest(mask.shape[1])
        first, last = columns[0], columns[-1] + 1
        if mask.shape[0] > self.rows.scaled:  # fewer rows to take columns of
            return np.asarray(mask[rows, first:last].take(columns - first, axis=1))
        shown = mask[rows[0] : rows[-1] + 1, first:last]
        return np.asarray(shown.take(columns - first, axis=1)[rows - rows[0]])

    def pad(self, part: Array, fill: float | Sequence[float]) -> Array:
        """The part inside in its place in the crop, surrounded by ``fill``."""
        size = (self.rows.length, self.columns.length)
        if part.shape[:2] == size:
            return part
        crop = np.empty((*size, *part.shape[2:]), part.dtype)
        crop[...] = fill
        crop[self.rows.filled, self.columns.filled] = part
        return crop


def _back(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _sample(image: Array, positions: Array, size: tuple[int, int]) -> Array:
    """Bilinear samples at ``positions``, a (2, 3) affine map from the result, of ``size`` (width, height).

    cv2 takes exact positions only of uint8, uint16 and float32 in one, three or four channels, and four in half the
    time of three.
    """
    if image.dtype == np.int16:  # its values in the same order, since uint16 is sampled exactly
        shifted = image.view(np.uint16) ^ np.uint16(2**15)
        return (_sample(shifted, positions, size) ^ np.uint16(2**15)).view(np.int16)
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels in (1, 4):
        return _warp(image, positions, size)
    if channels == 3:
        return cv2.cvtColor(_warp(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), positions, size), cv2.COLOR_RGBA2RGB)
    fours = [np.empty((*image.shape[:2], 4), image.dtype) for _ in range(0, channels, 4)]
    places = range(4 * len(fours))
    cv2.mixChannels([image], fours, [at for place in places for at in (min(place, channels - 1), place)])
    sampled = np.empty((size[1], size[0], channels), image.dtype)
    cv2.mixChannels(
        [_warp(four, positions, size) for four in fours], [sampled], [at for at in range(channels) for _ in (0, 1)]
    )
    return sampled


def _warp(image: Array, positions: Array, size: tuple[int, int]) -> Array:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, positions, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
