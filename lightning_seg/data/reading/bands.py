"""Reads bands of images as they are stored: ``data.bands``."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.decoders import decode_stored
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.orientation import turn_upright
from lightning_seg.data.reading.rules import ReadingRules
from lightning_seg.data.reading.storage import named, read_bytes
from lightning_seg.errors import UnfitImageError
from lightning_seg.sources import AnyFile


class BandsFile:
    """The bands of an image that ``data.bands`` names; it is open, and not decoded.

    Attributes:
        path: of the file.
        header: what it says of itself.

    Args:
        path: of the file.
        rules: what may be read; with ``bands``.

    Raises:
        UnreadableError: if the file is missing or no image.
        UnfitImageError: if it has too few bands, another type, or more pixels than are allowed.
    """

    reductions: tuple[int, ...] = ()

    def __init__(self, path: AnyFile, rules: ReadingRules) -> None:
        self.path = path
        self._rules = rules
        with named(path, "image"):
            self._data = read_bytes(path)
            self.header = header_of(BytesIO(self._data))
        rules.check_size(self.header.stored, path, "image")
        refuse_bands(self.header, path, rules)

    def whole(self) -> NDArray[Any]:
        """Decode to (H, W, C), upright, in the type of the data set.

        Raises:
            UnreadableError: if the file is damaged or truncated.
        """
        header, rules = self.header, self._rules
        assert rules.bands is not None
        with named(self.path, "image"):
            stored = decode_stored(self._data, header)
            if stored.shape[:2] != header.stored:
                raise ValueError(f"it holds {stored.shape[1]}×{stored.shape[0]} pixels, and says otherwise")
            stored = stored[..., None] if stored.ndim == 2 else stored
            pixels = stored[..., [band - 1 for band in rules.bands]]
            if rules.ranges is not None and header.is_deep:
                pixels = rules.as_bytes(pixels, self.path, header.described)
        turned = turn_upright(pixels, header.orientation).reshape(*header.upright, len(rules.bands))
        return np.ascontiguousarray(turned, rules.type_of(header.type))

    def part(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Decode at least some rows and columns; other pixels of the (H, W, C) may hold anything."""
        return self.whole()


def refuse_bands(header: Header, path: AnyFile, rules: ReadingRules) -> None:
    """Refuse a file without the bands that are asked for, or of another type than the data set.

    Raises:
        UnfitImageError: if it does not fit.
    """
    assert rules.bands is not None
    if max(rules.bands) > header.bands:
        raise UnfitImageError(
            f"image {path} {header.described}, but data.bands asks for band {max(rules.bands)}: name bands that all "
            "images have, or leave this image out"
        )
    held = rules.type_of(header.type)
    if rules.dtype not in (None, held):
        raise UnfitImageError(
            f"image {path} {header.described}, but the images of this data set are read as {rules.dtype}: convert it, "
            "or leave it out"
        )
