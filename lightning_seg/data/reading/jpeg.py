"""Reads the header of a JPEG."""

import struct
from typing import BinaryIO

from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.orientation import orientation_of

JPEG_START = b"\xff\xd8"

_FRAMES = {0xC0 + number for number in range(16)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_SCAN, _END_MARKER, _APP1 = 0xDA, 0xD9, 0xE1
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def read_jpeg(file: BinaryIO) -> Header:
    """Read a file up to its first scan. Further pictures in it, such as depth maps of phones, do not count.

    Raises:
        ValueError: if the file is cut off before its first scan.
    """
    file.seek(len(JPEG_START))
    exif = xmp = frame = None
    while (marker := _next_marker(file)) not in (_SCAN, _END_MARKER):
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        if length < 0:
            raise ValueError("a JPEG that is damaged or truncated before its pixels")
        if marker not in _FRAMES and marker != _APP1:
            file.seek(length, 1)
            continue
        segment = file.read(length)
        if marker in _FRAMES:
            frame = segment
        elif segment.startswith(_EXIF):
            exif = segment if exif is None else exif
        elif segment.startswith(_XMP):
            xmp = segment if xmp is None else xmp
    if frame is None or len(frame) < 6:
        raise ValueError("a JPEG without pixels")
    bits, height, width, components = struct.unpack(">BHHB", frame[:6])
    return Header(
        (height, width),
        orientation_of(exif, xmp),
        "JPEG",
        bands=1 if components == 1 else 3,
        bits=bits,
        type="uint8" if bits == 8 else "uint16",
        lossy="a JPEG",
    )


def _next_marker(file: BinaryIO) -> int:
    """The next marker. Bytes before it are no part of a sound file; libjpeg passes over them, too."""
    byte = file.read(1)
    while byte:
        while byte and byte != b"\xff":
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if byte > b"\0":
            return byte[0]
    raise ValueError("a JPEG that is truncated before its pixels")
