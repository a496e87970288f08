"""Turns bytes into pixels.

``storage`` alone opens files, wherever their bytes are. ``headers`` says what a file is, above all its size and its
orientation. ``decoders`` makes pixels of it. Others ask ``images`` and ``masks``, which share one header and one set of
rules.
"""

from lightning_seg.data.reading.display import as_shown
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import read_header
from lightning_seg.data.reading.images import REDUCTIONS, ImageFile, open_image, read_image, type_of_image
from lightning_seg.data.reading.masks import StoredMask, read_mask
from lightning_seg.data.reading.rules import MAX_PIXELS, USUAL, ReadingRules

__all__ = [
    "MAX_PIXELS",
    "REDUCTIONS",
    "USUAL",
    "Header",
    "ImageFile",
    "ReadingRules",
    "StoredMask",
    "as_shown",
    "open_image",
    "read_header",
    "read_image",
    "read_mask",
    "type_of_image",
]
