"""Reads bands of images as they are stored: ``data.bands``."""

from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.absent import absent_pixels, fill_absent
from lightning_seg.data.reading.decoders import decode_all
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.npy import in_native_order, npy_array
from lightning_seg.data.reading.orientation import turn_upright
from lightning_seg.data.reading.rules import ReadingRules
from lightning_seg.data.reading.storage import named, open_file
from lightning_seg.errors import UnfitImageError
from lightning_seg.sources import AnyFile

MOST_FOR_OPENCV = 128
"""Channels of an image that OpenCV 5 takes; 4 takes 512."""

_BY_WINDOWS = ("TIFF", "NPY")
"""Formats of which a part is read without the rest."""


class Bands(NamedTuple):
    """A part of an image.

    Attributes:
        pixels: (h, w, C), upright, in the type of the data set; what ``fill`` says where the file holds nothing.
        absent: (h, w), where that is; None: nowhere.
    """

    pixels: NDArray[Any]
    absent: NDArray[np.bool_] | None


class BandsFile:
    """The bands of an image that ``data.bands`` names. Nothing is decoded before it is asked for.

    Attributes:
        path: of the file.
        header: what it says of itself.
        has_parts: whether a part is read without the rest.

    Args:
        path: of the file.
        rules: what may be read; with ``bands``.

    Raises:
        UnreadableError: if the file is missing or no image.
        UnfitImageError: if it has too few bands, another type, or more pixels than are allowed.
    """

    def __init__(self, path: AnyFile, rules: ReadingRules) -> None:
        self.path = path
        self._rules = rules
        self._data: bytes | None = None  # of what is read whole; a large file is read by its windows
        with named(path, "image"), open_file(path) as file:
            self.header = header_of(file)
            if not isinstance(path, Path) or self.header.format not in _BY_WINDOWS:
                file.seek(0)
                self._data = file.read()
        rules.check_size(self.header.stored, path, "image")
        refuse_bands(self.header, path, rules)
        self.has_parts = self.header.format in _BY_WINDOWS and self.header.orientation == 1

    def whole(self) -> NDArray[Any]:
        """Decode to (H, W, C), as :meth:`read` without a part."""
        return self.read().pixels

    def read(self, part: tuple[slice, slice] | None = None) -> Bands:
        """Decode the bands, upright, in the type of the data set.

        Args:
            part: rows and columns, where the file :attr:`has_parts`; None: all.

        Raises:
            UnreadableError: if the file is damaged or truncated, there.
            UnfitImageError: if it turns out to have too few bands.
        """
        header, rules = self.header, self._rules
        assert rules.bands is not None
        assert part is None or self.has_parts
        rows, columns = part or (slice(0, header.stored[0]), slice(0, header.stored[1]))
        with named(self.path, "image"):
            planes, absent = self._planes(rules.bands, rows, columns)
            pixels = np.empty((*planes[0].shape, len(planes)), rules.type_of(header.type))
            if rules.ranges is not None and header.is_deep:
                pixels[...] = rules.as_bytes(np.stack(planes, 2), self.path, header.described)
            else:
                _interleave(planes, pixels)
            fill_absent(pixels, absent, rules.fill)
        if header.orientation == 1:
            return Bands(pixels, absent)
        turned = turn_upright(pixels, header.orientation).reshape(*header.upright, len(planes))
        if absent is not None:
            absent = turn_upright(absent.view(np.uint8), header.orientation).view(np.bool_)
        return Bands(np.ascontiguousarray(turned), absent)

    def _planes(
        self, bands: tuple[int, ...], rows: slice, columns: slice
    ) -> tuple[list[NDArray[Any]], NDArray[np.bool_] | None]:
        """(h, w) of each band as stored, in its own type, and where the file holds nothing."""
        header = self.header
        if header.format == "TIFF":
            from lightning_seg.data.reading.geotiff import read_planes  # of an extra

            return read_planes(self._source, header, bands, rows, columns)
        if header.format == "NPY":
            array = npy_array(self._source)
            stored = in_native_order(array[rows, columns, [band - 1 for band in bands]])
            return (planes := [*stored.transpose(2, 0, 1)]), absent_pixels(planes)
        assert self._data is not None
        stored = decode_all(self._data, header)
        header.refuse_other_size(*stored.shape[:2])
        _refuse_count(stored.shape[2], f"has {stored.shape[2]} bands of {stored.dtype}", self.path, bands)
        planes = [stored[..., band - 1] for band in bands]
        return planes, absent_pixels(planes)

    @property
    def _source(self) -> Any:
        return self.path if self._data is None else BytesIO(self._data)


def refuse_bands(header: Header, path: AnyFile, rules: ReadingRules) -> None:
    """Refuse a file without the bands that are asked for, or of another type than the data set.

    Raises:
        UnfitImageError: if it does not fit.
    """
    assert rules.bands is not None
    if not header.layers and header.pages > 1:
        raise UnfitImageError(
            f"image {path} has {header.described_pages} that differ in size or type, so that its bands cannot be "
            "counted: store those that are needed as a file of their own"
        )
    if header.samples is not None:
        _refuse_count(header.samples, header.described, path, rules.bands)
    held = rules.type_of(header.type)
    if rules.dtype not in (None, held):
        raise UnfitImageError(
            f"image {path} {header.described}, but the images of this data set are read as {rules.dtype}: convert it, "
            "or leave it out"
        )


def _refuse_count(count: int, described: str, path: AnyFile, bands: tuple[int, ...]) -> None:
    if max(bands) > count:
        with_alpha = f", {count} with alpha" if str(count) not in described else ""
        raise UnfitImageError(
            f"image {path} {described}{with_alpha}, but data.bands asks for band {max(bands)}: name bands that all "
            "images have, or leave this image out"
        )


def _interleave(planes: list[NDArray[Any]], pixels: NDArray[Any]) -> None:
    """Write (h, w) planes into (h, w, C) pixels, converted to their type."""
    alike = all(plane.dtype == pixels.dtype for plane in planes)
    if alike and 1 < len(planes) <= MOST_FOR_OPENCV:
        cv2.merge([np.ascontiguousarray(plane) for plane in planes], pixels)  # a fraction of the time
        return
    with np.errstate(over="ignore"):  # infinite, and so absent
        for band, plane in enumerate(planes):
            pixels[..., band] = plane
