"""Reads the header of a PNG, and checks that its bytes are those that were written."""

import struct
import zlib
from typing import BinaryIO

from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.orientation import orientation_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_BANDS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 1, RGBA: 3}

_OF_TEXT = (b"iTXt", b"tEXt", b"zTXt")
_MOST_TEXT = 2**20


def read_png(file: BinaryIO) -> Header:
    """Read the header; metadata may follow the pixels, which are passed over.

    Raises:
        ValueError: if the file is cut off before its pixels, or no PNG.
    """
    file.seek(len(SIGNATURE))
    header, exif, xmp, frames = b"", None, None, 1
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        following = file.tell() + length + 4
        if kind == b"IHDR":
            header = file.read(length)
        elif kind == b"eXIf":
            exif = file.read(length)
        elif kind == b"acTL":
            frames = int.from_bytes(file.read(4), "big")
        elif kind in _OF_TEXT:
            exif, xmp = _metadata(kind, file.read(length), exif, xmp)
        elif kind == b"IEND":
            break
        file.seek(following)
    if len(header) != 13:
        raise ValueError("a PNG without a header")
    width, height, depth, colours = struct.unpack(">IIBB", header[:10])
    if colours not in _BANDS:
        raise ValueError(f"a PNG of colour type {colours}")
    return Header(
        (height, width),
        orientation_of(exif, xmp),
        "PNG",
        bands=_BANDS[colours],
        bits=depth,
        type="uint16" if depth == 16 else "uint8",
        pages=max(1, frames),
        variant=colours,
        layers=((1, _BANDS[colours] + (colours in (GREY_ALPHA, RGBA))),),
    )


def check_png(data: bytes) -> None:
    """Compare every chunk with its checksum, up to the end of the picture; decoders do not, and some crash.

    Raises:
        ValueError: if a chunk is damaged or missing.
    """
    whole = memoryview(data)
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(whole[place + 4 : end]) != int.from_bytes(whole[end : end + 4], "big"):
            raise ValueError(f"its {kind.decode('latin-1')!r} chunk is damaged: the checksum differs")
        if kind == b"IEND":
            return
        place = end + 4
    raise ValueError("it is truncated")


def _metadata(kind: bytes, chunk: bytes, exif: bytes | None, xmp: bytes | None) -> tuple[bytes | None, bytes | None]:
    """EXIF data and XMP, with what a chunk of text adds to them."""
    keyword, _, text = chunk.partition(b"\0")
    if keyword == b"XML:com.adobe.xmp" and kind == b"iTXt":
        packed, rest = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        return exif, _inflated(rest) if packed else rest
    if keyword == b"Raw profile type exif" and exif is None:  # ImageMagick writes it in hexadecimal digits
        lines = (_inflated(text[1:]) if kind == b"zTXt" else text).split(b"\n")
        try:
            return bytes.fromhex(b"".join(lines[3:]).decode("ascii")), xmp
        except ValueError:
            return exif, xmp
    return exif, xmp


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MOST_TEXT)
    except zlib.error:
        return b""
