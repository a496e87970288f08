"""How bytes become pixels.

``storage`` alone reads bytes; ``headers`` says what a file is, its size and orientation above all, and ``decoders``
makes pixels of it; ``images`` and ``masks`` are what others ask, and go by the same header and the same rules.
"""

from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import read_header
from lightning_seg.data.reading.images import REDUCTIONS, ImageFile, read_image
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
    "read_header",
    "read_image",
    "read_mask",
]
