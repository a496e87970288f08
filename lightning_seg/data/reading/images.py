"""Reads images as networks take them: RGB bytes, upright."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading import turbojpeg
from lightning_seg.data.reading.bands import BandsFile
from lightning_seg.data.reading.decoders import decode_reduced, decode_rgb, decode_stored
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of, read_header
from lightning_seg.data.reading.orientation import turn_upright
from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.data.reading.storage import named, read_bytes
from lightning_seg.errors import UnfitImageError
from lightning_seg.sources import AnyFile

RGBImage = NDArray[np.uint8]

REDUCTIONS = (2, 4, 8)
"""Factors by which a JPEG can be shrunk while it is decoded; its size is rounded up."""


class ImageFile:
    """An image that has been read but not decoded.

    Attributes:
        path: of the file.
        header: what it says of itself.

    Args:
        path: of the file.
        rules: what may be read.

    Raises:
        UnreadableError: if the file is missing or no image.
        UnfitImageError: if it has more pixels than are allowed.
    """

    def __init__(self, path: AnyFile, rules: ReadingRules = USUAL) -> None:
        self.path = path
        self._rules = rules
        with named(path, "image"):
            self._data = read_bytes(path)
            self.header = header_of(BytesIO(self._data))
            rules.check_size(self.header.stored, path, "image")

    def whole(self) -> RGBImage:
        """Decode to (H, W, 3) RGB uint8, upright; alpha is left out.

        Raises:
            UnreadableError: if the file is damaged or truncated.
            UnfitImageError: if values, bands or pages would have to be left out.
        """
        header = self.header
        with named(self.path, "image"):
            refuse_parts(header, self.path)
            if header.is_deep:
                pixels = self._rules.as_bytes(decode_stored(self._data, header), self.path, header.described)
                if header.inverted:
                    pixels = 255 - pixels
            else:
                pixels = decode_rgb(self._data, header)
            header.refuse_other_size(*pixels.shape[:2])
        return turn_upright(pixels, header.orientation)

    def part(self, rows: slice, columns: slice) -> RGBImage:
        """Decode some rows and columns of an upright JPEG where libjpeg-turbo 3 is installed; else the whole.

        Returns:
            (H, W, 3) RGB uint8 of the whole size; pixels that were not asked for may hold anything.

        Raises:
            UnreadableError: as :meth:`whole`, but not for damage behind the rows.
            UnfitImageError: likewise.
        """
        if self.header.format == "JPEG" and self.header.orientation == 1:
            with named(self.path, "image"):
                if (pixels := turbojpeg.decode_part(self._data, rows, columns)) is not None:
                    return pixels
        return self.whole()

    @property
    def reductions(self) -> tuple[int, ...]:
        """The :data:`REDUCTIONS` that the image can be decoded at; those of a turned image divide its size."""
        if self.header.format != "JPEG":
            return ()
        exact = self.header.orientation == 1
        return tuple(by for by in REDUCTIONS if exact or not any(side % by for side in self.header.stored))

    def reduced(self, by: int) -> RGBImage:
        """Decode a JPEG at a fraction of its size, at about half the cost.

        The pixels are those of libjpeg's smaller transform: on average 0.3 grey levels from bilinear scaling at ½.
        Each pixel stands for exactly ``by`` × ``by`` pixels of the image; the last ones may reach beyond its border.

        Args:
            by: one of :attr:`reductions`.

        Returns:
            (h, w, 3) RGB uint8, upright; sizes are rounded up.

        Raises:
            UnreadableError: as :meth:`whole`.
        """
        with named(self.path, "image"):
            return turn_upright(decode_reduced(self._data, by), self.header.orientation)


def read_image(path: AnyFile, rules: ReadingRules = USUAL) -> NDArray[Any]:
    """Decode an image, upright: (H, W, 3) RGB uint8; with ``rules.bands`` (H, W, C) of the type of the data set.

    Raises:
        UnreadableError: if the file is missing, damaged or truncated.
        UnfitImageError: if values, bands or pages would have to be left out, or are not there.
    """
    return open_image(path, rules).whole()


def open_image(path: AnyFile, rules: ReadingRules = USUAL) -> "ImageFile | BandsFile":
    """Open an image, and decode nothing.

    Raises:
        UnreadableError: if the file is missing or no image.
        UnfitImageError: if it has more pixels than are allowed, or other bands.
    """
    return ImageFile(path, rules) if rules.bands is None else BandsFile(path, rules)


def type_of_image(path: AnyFile, rules: ReadingRules) -> str:
    """NumPy's name of the type that :func:`read_image` gives a file in, as its header says.

    Raises:
        UnreadableError: if the file is missing or no image.
    """
    if rules.bands is None:
        return "uint8"
    return rules.type_of(read_header(path, "image", rules).type)


def refuse_parts(header: Header, path: AnyFile) -> None:
    """Refuse what no RGB image can hold: leaving bands or pages out would be a guess.

    Raises:
        UnfitImageError: if there are bands or pages that are neither grey nor RGB.
    """
    if header.format == "NPY":
        raise UnfitImageError(
            f"image {path} is a .npy file that {header.described}: name those that networks are to see with data.bands"
        )
    if header.bands not in (1, 3):
        raise UnfitImageError(
            f"image {path} {header.described}, and networks take 3: name those that they are to see with "
            "data.bands, or store them as an image of three bands"
        )
    if header.pages > 1:
        raise UnfitImageError(
            f"image {path} has {header.described_pages}, and one is expected: store each as a file of its own"
        )
