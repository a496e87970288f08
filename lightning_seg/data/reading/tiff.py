"""Reads the header of a TIFF, and makes a copy of its bytes that has no orientation."""

import struct
from io import BytesIO
from typing import BinaryIO

from lightning_seg.data.reading.directories import BIG, Tag, read_directories
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.orientation import ORIENTATION, orientation_of

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _STRIP_BYTES, _PLANAR, _TILES, _TILE_BYTES = 273, 277, 279, 284, 324, 325
_EXTRA, _SAMPLE_FORMAT, _XMP = 338, 339, 700
_WANTED = (_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, ORIENTATION, _STRIPS, _SAMPLES, _PLANAR,
           _TILES, _EXTRA, _SAMPLE_FORMAT, _XMP)  # fmt: skip

_GEO_KEYS = 34735

_LAYOUT = (_WIDTH, _HEIGHT, _COMPRESSION, 266, 278, 317, 322, 323)
"""Tags that every band shares: sizes of strips and tiles, the order of bits, the predictor."""
_PLACES = (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)

SEPARATE = 2
"""The planar configuration in which bands are stored one after the other."""

_NO_PAGE = 1 | 4
"""Bits that mark a sub-file as a reduced copy (an overview) or a mask of another."""

_WHITE_IS_ZERO, _PALETTE, _SEPARATED = 0, 3, 5
_ALPHA = (1, 2)

_LOSSY = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34892: "JPEG",
          50002: "JPEG XL", 52546: "JPEG XL"}  # fmt: skip
_WEBP = 50001
_TYPES = {1: "uint", 2: "int", 3: "float"}


def read_tiff(file: BinaryIO) -> Header:
    """Read the header of the first page, and count the pages.

    Raises:
        ValueError: if the file is cut off or no TIFF.
    """
    tags, *others = read_directories(file, _WANTED)
    numbered = [
        (1, tags),
        *((at, page) for at, page in enumerate(others, 2) if not _first(page, _SUBFILE, 0) & _NO_PAGE),
    ]
    alike = len({_kind(page) for _, page in numbered}) == 1
    samples = _first(tags, _SAMPLES, 1)
    alphas = sum(extra in _ALPHA for extra in tags[_EXTRA].values) if _EXTRA in tags else 0
    bits = max(tags[_BITS].values) if _BITS in tags else 1
    held = _type(_TYPES.get(_first(tags, _SAMPLE_FORMAT, 1), "uint"), bits)
    # Inks become colours where a library here converts them: in 8 bits.
    inks = _first(tags, _PHOTOMETRIC, 1) == _SEPARATED and samples - alphas == 4 and held == "uint8"
    if not {_WIDTH, _HEIGHT} <= tags.keys():
        raise ValueError("a TIFF without a size")
    return Header(
        (_first(tags, _HEIGHT, 0), _first(tags, _WIDTH, 0)),
        _orientation(tags),
        "TIFF",
        bands=3 if inks else samples - alphas,
        bits=bits,
        type=held,
        pages=len(numbered),
        lossy=_lossy(file, tags),
        inverted=_first(tags, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO,
        variant=SEPARATE if samples > 1 and _first(tags, _PLANAR, 1) == SEPARATE else 0,
        layers=tuple((at, _first(page, _SAMPLES, 1)) for at, page in numbered) if alike else (),
        indexed=_first(tags, _PHOTOMETRIC, 1) == _PALETTE,
    )


def is_georeferenced(file: BinaryIO) -> bool:
    """Whether a file is a TIFF that says where it lies on the earth: a GeoTIFF."""
    file.seek(0)
    return file.read(4) in MAGICS and bool(next(read_directories(file, (_GEO_KEYS,))))


def without_orientation(data: bytes) -> bytes:
    """Copy the file as one that says that its pixels are upright: every decoder would turn them by itself."""
    tag = next(read_directories(BytesIO(data), (ORIENTATION,))).get(ORIENTATION)
    if tag is None or tag.values[0] == 1:
        return data
    upright = bytearray(data)
    struct.pack_into(tag.code, upright, tag.place, 1)
    return bytes(upright)


def band_of(data: bytes, band: int) -> bytes:
    """Make a TIFF of one band of a TIFF that stores them one after the other: a new directory follows its bytes."""
    tags = next(read_directories(BytesIO(data), (*_LAYOUT, *_PLACES, _BITS, _SAMPLES, _SAMPLE_FORMAT)))
    samples = _first(tags, _SAMPLES, 1)
    entries = {number: tags[number].values for number in _LAYOUT if number in tags}
    for number in (*_PLACES, _BITS, _SAMPLE_FORMAT):
        if number in tags:
            share = len(tags[number].values) // samples
            entries[number] = tags[number].values[band * share : (band + 1) * share]
    entries |= {_PHOTOMETRIC: (1,), _SAMPLES: (1,)}
    order = tags[_WIDTH].code[0]
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == BIG
    word, kind, inline = ("Q", 16, 8) if is_big else ("I", 4, 4)
    start = len(data) + len(data) % 2
    table = struct.pack(f"{order}{'Q' if is_big else 'H'}", len(entries))
    end = start + len(table) + len(entries) * (4 + 2 * inline) + inline
    tail = b""
    for number, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{word}", *values)
        table += struct.pack(f"{order}HH{word}", number, kind, len(values))
        table += packed if len(values) == 1 else struct.pack(order + word, end + len(tail))
        tail += packed if len(values) > 1 else b""
    table += bytes(inline)
    head = data[: 8 if is_big else 4] + struct.pack(order + word, start)
    return head + data[len(head) :] + bytes(len(data) % 2) + table + tail


def _kind(tags: dict[int, Tag]) -> tuple[int, ...]:
    """What pages share whose bands are counted together."""
    bits = max(tags[_BITS].values) if _BITS in tags else 1
    return _first(tags, _HEIGHT, 0), _first(tags, _WIDTH, 0), bits, _first(tags, _SAMPLE_FORMAT, 1)


def _orientation(tags: dict[int, Tag]) -> int:
    if ORIENTATION in tags:
        stated = tags[ORIENTATION].values[0]
        return stated if stated in range(1, 9) else 1
    packet = bytes(value & 255 for value in tags[_XMP].values) if _XMP in tags else None
    return orientation_of(None, packet)


def _type(kind: str, bits: int) -> str:
    if kind == "float":
        return f"float{bits}"
    return f"{kind}{8 if bits <= 8 else 16 if bits <= 16 else 32 if bits <= 32 else 64}"


def _lossy(file: BinaryIO, tags: dict[int, Tag]) -> str | None:
    compression = _first(tags, _COMPRESSION, 1)
    name = _LOSSY.get(compression)
    if compression == _WEBP:
        strips = tags.get(_STRIPS) or tags.get(_TILES)
        for place in strips.values if strips else ():
            file.seek(place + 12)
            if file.read(4) != b"VP8L":
                name = "WebP"
    return None if name is None else f"a TIFF whose pixels are compressed as {name}"


def _first(tags: dict[int, Tag], number: int, default: int) -> int:
    return tags[number].values[0] if number in tags else default
