"""Reads NumPy's ``.npy`` files of (H, W) or (H, W, C); pickled objects are never loaded."""

import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lightning_seg.data.reading.header import Header

MAGIC = b"\x93NUMPY"

_KINDS = "uifb"
"""NumPy's letters of whole numbers, floats and truth values."""


class _Layout(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int


def read_npy(file: BinaryIO) -> Header:
    """Read the header.

    Raises:
        ValueError: if it is damaged, or the array is no image of numbers, or cut off.
    """
    layout = _layout_of(file)
    bands = layout.shape[2] if len(layout.shape) == 3 else 1
    held = layout.dtype.name
    return Header(
        (layout.shape[0], layout.shape[1]), 1, "NPY", bands, 8 * layout.dtype.itemsize, held, layers=((1, bands),)
    )


def npy_array(source: Path | BinaryIO) -> NDArray[Any]:
    """The array of a file, (H, W, C): of a path as a view of the file, of which only what is used is read.

    Raises:
        ValueError, OSError: as :func:`read_npy`.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            layout = _layout_of(file)
        whole: NDArray[Any] = np.memmap(source, layout.dtype, "r", layout.start, layout.shape, _order(layout))
    else:
        layout = _layout_of(source)
        source.seek(layout.start)
        count = int(np.prod(layout.shape))
        whole = np.frombuffer(source.read(count * layout.dtype.itemsize), layout.dtype)
        whole = whole.reshape(layout.shape, order=_order(layout))
    return whole if whole.ndim == 3 else whole[..., None]


def in_native_order(array: NDArray[Any]) -> NDArray[Any]:
    """The same values in the machine's order of bytes, in memory."""
    return np.array(array, array.dtype.newbyteorder("="))


def _layout_of(file: BinaryIO) -> _Layout:
    file.seek(0)
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it is a .npy file of version {version[0]}.{version[1]}, which holds no plain numbers")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except Exception as error:  # of Python's parser too
        raise ValueError(f"its header is damaged: {' '.join(str(error).split())}") from None
    if dtype.kind not in _KINDS or dtype.name == "longdouble" or dtype.itemsize > 8:
        raise ValueError(f"it holds {dtype}, and images are whole numbers or floats")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"it is an array of shape {shape}, and images are (H, W) or (H, W, C)")
    start = file.tell()
    needed = start + dtype.itemsize * int(np.prod([int(side) for side in shape], dtype=object))
    if file.seek(0, os.SEEK_END) < needed:
        raise ValueError(f"it is truncated: an array of shape {shape} of {dtype} takes {needed} bytes")
    return _Layout(shape, fortran, dtype, start)


def _order(layout: _Layout) -> Any:
    return "F" if layout.fortran else "C"
