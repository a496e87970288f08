"""Turns images upright, by one rule for every format, for headers and for pixels."""

import re
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.directories import read_directories

ORIENTATION = 0x0112
"""The tag of EXIF and of TIFF."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap height and width."""

_EXIF_PREFIX = b"Exif\0\0"
_IN_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")

_TURNS: dict[int, tuple[int | None, int | None]] = {
    2: (None, 1),
    3: (cv2.ROTATE_180, None),
    4: (None, 0),
    5: (cv2.ROTATE_90_CLOCKWISE, 1),
    6: (cv2.ROTATE_90_CLOCKWISE, None),
    7: (cv2.ROTATE_90_CLOCKWISE, 0),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, None),
}
"""OpenCV's rotation, then its flip, that turn pixels upright."""


def orientation_of(exif: bytes | None, xmp: bytes | None) -> int:
    """How the pixels are to be turned, as EXIF's number from 1 to 8; 1: not at all.

    EXIF data decides where it has the tag, otherwise XMP. Data that cannot be understood is passed over.

    Args:
        exif: a TIFF directory, with or without the prefix that it has in a JPEG.
        xmp: the packet as it is stored.
    """
    if exif is not None:
        try:
            tag = next(read_directories(BytesIO(exif.removeprefix(_EXIF_PREFIX)), {ORIENTATION})).get(ORIENTATION)
        except ValueError:
            tag = None
        if tag is not None:
            return tag.values[0] if tag.values[0] in range(1, 9) else 1
    found = _IN_XMP.search(xmp or b"")
    return int(found[1]) if found else 1


def turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored (H, W) or (H, W, C) pixels upright; the same array comes back where they are upright already."""
    rotation, flip = _TURNS.get(orientation, (None, None))
    if rotation is not None:
        pixels = cv2.rotate(pixels, rotation)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip))
