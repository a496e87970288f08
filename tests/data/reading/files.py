"""Files as other programs write them, byte by byte, where Pillow cannot write them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, kind: int, rows: list[bytes], width: int, *between: bytes, after: bytes = b"") -> bytes:
    """A PNG of rows of packed values, with chunks before and after its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + pixels + after + chunk(b"IEND", b"")


def deep_png(values: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) or (H, W, 4) uint16 as a PNG of 16 bits."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    rows = [row.astype(">u2").tobytes() for row in values]
    return png(16, {1: 0, 3: 2, 4: 6}[channels], rows, values.shape[1])


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """EXIF data that holds an orientation alone, of type SHORT or LONG."""
    code = {3: "HH", 4: "I"}[kind]
    value = struct.pack(order + code, *((orientation, 0) if kind == 3 else (orientation,)))
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return start + struct.pack(f"{order}HHHI", 1, 0x0112, kind, 1) + value + bytes(4)


def jpeg_with(data: bytes, segment: bytes, marker: int = 0xE1) -> bytes:
    """A JPEG with one segment more, the first."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(segment) + 2) + segment + data[2:]


def tiff(*pages: np.ndarray, order: str = "<", big: bool = False, tags: dict[int, tuple[int, list[int]]] | None = None,
         later: dict[int, tuple[int, list[int]]] | None = None) -> bytes:  # fmt: skip
    """An uncompressed TIFF of (H, W) or (H, W, C) pages.

    Args:
        pages: one array each.
        order: ``<`` or ``>``.
        big: BigTIFF.
        tags: more of the first page, number to type and values; they replace those of its own.
        later: the same of the other pages.
    """
    word = "Q" if big else "I"
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if big else b""
    size = len(head) + struct.calcsize(word)
    first, body = 0, b""
    for index, page in enumerate(pages):
        pixels = page.astype(page.dtype.newbyteorder(order)).tobytes()
        place = size + len(body)
        body += pixels + bytes(-len(pixels) % 8)
        start = size + len(body)
        first = first or start
        more = (tags if index == 0 else later) or {}
        body += _directory(page, place, start, order, big, more, last=index == len(pages) - 1)
    return head + struct.pack(order + word, first) + body


def _directory(page: np.ndarray, place: int, start: int, order: str, big: bool,
               more: dict[int, tuple[int, list[int]]], last: bool) -> bytes:  # fmt: skip
    height, width = page.shape[:2]
    samples = page.shape[2] if page.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[page.dtype.kind]
    entries: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [page.dtype.itemsize * 8] * samples), 259: (3, [1]),
        262: (3, [2 if samples >= 3 else 1]), 273: (4, [place]), 277: (3, [samples]), 278: (4, [height]),
        279: (4, [page.nbytes]), 339: (3, [kind] * samples), **more,
    }  # fmt: skip
    word, inline = ("Q", 8) if big else ("I", 4)
    table = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    end = start + len(table) + len(entries) * (12 + 8 * big) + inline
    tail = b""
    for number, (code, values) in sorted(entries.items()):
        packed = b"".join(struct.pack(order + {1: "B", 2: "B", 3: "H", 4: "I"}[code], value) for value in values)
        table += struct.pack(f"{order}HH{word}", number, code, len(values))
        if len(packed) <= inline:
            table += packed.ljust(inline, b"\0")
        else:
            table += struct.pack(order + word, end + len(tail))
            tail += packed + bytes(-len(packed) % 8)
    tail += bytes(-(end + len(tail)) % 8)
    following = 0 if last else _start_of_next(end + len(tail), page)
    return table + struct.pack(order + word, following) + tail


def _start_of_next(end: int, page: np.ndarray) -> int:
    """All pages are of one size."""
    return end + page.nbytes + -page.nbytes % 8


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
