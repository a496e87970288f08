"""Reads the tags of a TIFF directory; TIFF files and EXIF data consist of such directories."""

import struct
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

CLASSIC, BIG = 42, 43

_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""``struct``'s names of the types that are whole numbers or bytes."""

_OF_DOUBLES = (33550, 33922, 34264)
"""Tags of a GeoTIFF's place, which alone are read as floating numbers."""
_DOUBLE = 12

_MOST_BYTES = 2**24
_MOST_DIRECTORIES = 2**16
_FARTHEST = 2**63 - 1


class Tag(NamedTuple):
    """Some numbers of a directory.

    Attributes:
        values: at least one; floats where the tag says where an image lies.
        place: where the first value is, in bytes from the start of the file.
        code: ``struct``'s name of one value, with its byte order.
    """

    values: tuple[int, ...]
    place: int
    code: str


def read_directories(file: BinaryIO, wanted: Collection[int]) -> Iterator[dict[int, Tag]]:
    """The wanted tags of each directory, at least one, in the order of the chain.

    Raises:
        ValueError: if the file is no TIFF or cut off, or the chain goes round.
    """
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(file.read(2))
    version = _read(file, f"{order}H")[0] if order else 0
    if version == CLASSIC:
        (place,), counter, entry, inline = _read(file, f"{order}I"), f"{order}H", f"{order}HHI", 4
    elif version == BIG:
        (_, _, place), counter, entry, inline = _read(file, f"{order}HHQ"), f"{order}Q", f"{order}HHQ", 8
    else:
        raise ValueError("no TIFF directory")
    if not place:
        raise ValueError("a TIFF without a directory")
    word = f"{order}{'I' if inline == 4 else 'Q'}"
    seen: set[int] = set()
    while place:
        if place in seen or len(seen) == _MOST_DIRECTORIES:
            raise ValueError("a chain of TIFF directories that has no end")
        seen.add(place)
        _go(file, place)
        (count,) = _read(file, counter)
        length = struct.calcsize(entry) + inline
        first = file.tell()
        entries = _exactly(file, count * length)
        (following,) = _read(file, word)
        tags: dict[int, Tag] = {}
        for start in range(0, len(entries), length):
            number, kind, values = struct.unpack_from(entry, entries, start)
            letter = _NUMBERS.get(kind) if number not in _OF_DOUBLES else "d" if kind == _DOUBLE else None
            if number in wanted and number not in tags and letter and values:
                code = f"{order}{letter}"
                size = values * struct.calcsize(code)
                where = first + start + length - inline
                if size > inline:
                    (where,) = struct.unpack_from(word, entries, start + length - inline)
                _go(file, where)
                tags[number] = Tag(struct.unpack(f"{order}{values}{letter}", _exactly(file, size)), where, code)
        yield tags
        place = following


def _go(file: BinaryIO, place: int) -> None:
    if place > _FARTHEST:  # which a file cannot be asked for
        raise ValueError("a TIFF directory that is cut off")
    file.seek(place)


def _read(file: BinaryIO, code: str) -> tuple[int, ...]:
    return struct.unpack(code, _exactly(file, struct.calcsize(code)))


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size <= _MOST_BYTES else b""
    if len(data) < size:
        raise ValueError("a TIFF directory that is cut off")
    return data
