"""Reads the headers of formats that only Pillow opens: WebP, GIF, BMP, PNM, JPEG 2000 and AVIF."""

import struct
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.orientation import orientation_of
from lightning_seg.data.reading.pnm import maximum_of

FORMATS = ("WEBP", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of these formats. It opens more, some of them by other programs."""

_DEEP_MODES = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}
_LOSSY = {"JPEG2000": "a JPEG 2000 file", "AVIF": "an AVIF file"}
_SIZES_OF_JPEG_2000 = b"\xff\x4f\xff\x51"
_AVIF_CODEC = b"av1C"
_START = 2**16


def read_other(file: BinaryIO) -> Header:
    """Read the header of a file whose format has no module of its own.

    Raises:
        OSError: if Pillow does not know the format. Pillow's formats may raise other errors, too.
    """
    file.seek(0)
    try:
        opened = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        formats = "JPEG, PNG, TIFF, WebP, GIF, BMP, PNM, JPEG 2000 and AVIF"
        raise ValueError(f"it is none of {formats}, or its first bytes are damaged") from None
    with opened as image:
        kind = image.format or ""
        bands = 1 if image.mode in ("1", "L", "LA", "P", *_DEEP_MODES) else 3
        exif, xmp = image.info.get("exif"), image.info.get("xmp")
        size, mode, pages = (image.height, image.width), image.mode, getattr(image, "n_frames", 1)
        file.seek(0)
        data = file.read() if kind in ("JPEG2000", "AVIF") else file.read(_START)
        lossy = _LOSSY.get(kind)
        if kind == "WEBP" and b"VP8 " in _webp_chunks(file):
            lossy = "a lossy WebP"
    bits, held = _depth(kind, mode, data)
    if kind == "JPEG2000" and b"cdef" not in data:  # it says which band is alpha
        bands = max(bands, len(_depths_of_jpeg_2000(data)))
    return Header(
        size,
        orientation_of(exif if isinstance(exif, bytes) else None, xmp if isinstance(xmp, bytes) else None),
        kind,
        bands=bands,
        bits=bits,
        type=held,
        pages=pages,
        lossy=lossy,
    )


def _depth(kind: str, mode: str, data: bytes) -> tuple[int, str]:
    """Bits and type of a value; Pillow cuts most values of more than 8 bits."""
    bits = 1 if mode == "1" else 8
    if kind == "PPM" and (maximum := maximum_of(data)) is not None:
        return maximum.bit_length(), "uint8" if maximum < 256 else "uint16"
    if kind == "JPEG2000":
        bits = max(_depths_of_jpeg_2000(data), default=8)
    elif kind == "AVIF" and (place := data.find(_AVIF_CODEC)) >= 0:
        flags = data[place + 6]
        bits = 12 if flags & 0x20 else 10 if flags & 0x40 else 8
    held = _DEEP_MODES.get(mode, "uint8")
    return bits, "uint16" if bits > 8 and held in ("uint8", "int32") else held


def _depths_of_jpeg_2000(data: bytes) -> list[int]:
    """Number of bits of each band, from the first segment of the code stream."""
    place = data.find(_SIZES_OF_JPEG_2000)
    if place < 0:
        return []
    count = int.from_bytes(data[place + 40 : place + 42], "big")
    return [(depth & 127) + 1 for depth in data[place + 42 : place + 42 + 3 * count : 3]]


def _webp_chunks(file: BinaryIO) -> set[bytes]:
    """Kinds of chunks, with those of the frames of an animation."""
    kinds: set[bytes] = set()
    place = 12
    while True:
        file.seek(place)
        if len(start := file.read(8)) < 8:
            return kinds
        kind, length = struct.unpack("<4sI", start)
        kinds.add(kind)
        # A frame's chunks follow 16 bytes of its own.
        place += 24 if kind == b"ANMF" else 8 + length + length % 2
