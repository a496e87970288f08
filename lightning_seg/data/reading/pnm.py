"""Decodes PGM and PPM files as they are stored; every library stretches their values to 0…255 or 0…65535."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s+|#[^\n]*\n)+(\d+)" + rb"\s")
_ASCII, _COLOURED = b"23", b"36"


def maximum_of(start: bytes) -> int | None:
    """The value of white; None where the bytes are not the start of a PGM or PPM file."""
    found = _HEADER.match(start)
    return int(found[4]) if found else None


def decode_pnm(data: bytes) -> NDArray[Any]:
    """Decode a PGM file to (H, W), or a PPM file to (H, W, 3), of uint8 or uint16.

    Raises:
        ValueError: if the file is neither, or cut off.
    """
    found = _HEADER.match(data)
    if found is None:
        raise ValueError("no PGM or PPM file")
    kind, (width, height, maximum) = found[1], (int(found[index]) for index in (2, 3, 4))
    shape = (height, width, 3) if kind in _COLOURED else (height, width)
    count = int(np.prod(shape, dtype=np.int64))
    held = np.uint8 if maximum < 256 else np.uint16
    if kind in _ASCII:
        words = re.sub(rb"#[^\n]*", b"", data[found.end() :]).split()
        values = np.array(words[:count], np.int64)
    else:
        stored = np.dtype(held).newbyteorder(">")
        values = np.frombuffer(data, stored, min(count, (len(data) - found.end()) // stored.itemsize), found.end())
    if len(values) < count or (len(values) and int(values.max()) > maximum):
        raise ValueError("its values are cut off, or more than it says")
    return values.astype(held).reshape(shape)
