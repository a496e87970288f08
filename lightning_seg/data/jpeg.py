"""Part of a JPEG, decoded without the cost of the rest: libjpeg-turbo can, but no Python image library asks it to.

Huffman codes have to be read up to the last row that is wanted; the transforms, the upsampling and the conversion of
colours, which are most of the work, are left out for all other pixels.
"""

import ctypes
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files

import numpy as np
from numpy.typing import NDArray

# Of turbojpeg.h, version 3 of the API.
_DECOMPRESS = 1
_SUBSAMPLING, _WIDTH, _HEIGHT, _COLOUR_SPACE = 4, 5, 6, 8
_COMMON_SUBSAMPLINGS = range(5)
"""4:4:4, 4:2:2, 4:2:0, grey and 4:4:0: their blocks are at most 16 pixels wide."""
_COMMON_COLOUR_SPACES = range(3)
"""RGB, YCbCr and grey, which become RGB."""
_RGB = 0

_BLOCK = 16
"""Parts begin at multiples; so much more is decoded on each side, since colours are interpolated over blocks."""

_END = b"\xff\xd9"
_TRAILER = 4096
"""How much may follow the end of a picture; nothing tells a longer one from a file that was cut off."""


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


def decode_part(data: bytes, rows: slice, columns: slice) -> NDArray[np.uint8] | None:
    """Decode the rows and columns that are wanted, to the pixels that decoding the whole gives.

    Args:
        data: the file. An EXIF orientation counts for nothing here.
        rows: of the image as it is stored, from the first to before the last, step 1.
        columns: likewise.

    Returns:
        (H, W, 3) RGB uint8 of the whole size, of which other pixels may hold anything; None where libjpeg-turbo 3 is
        not installed, or the file is damaged or of a kind that had better be decoded whole.
    """
    library = _library()
    if library is None or _END not in data[-_TRAILER:]:
        return None
    handle = library.tj3Init(_DECOMPRESS)
    try:
        return _decode(library, handle, data, rows, columns)
    finally:
        library.tj3Destroy(handle)


def _decode(library: ctypes.CDLL, handle: int, data: bytes, rows: slice, columns: slice) -> NDArray[np.uint8] | None:
    if library.tj3DecompressHeader(handle, data, len(data)) != 0:
        return None
    is_common = library.tj3Get(handle, _SUBSAMPLING) in _COMMON_SUBSAMPLINGS
    if not (is_common and library.tj3Get(handle, _COLOUR_SPACE) in _COMMON_COLOUR_SPACES):
        return None
    height, width = library.tj3Get(handle, _HEIGHT), library.tj3Get(handle, _WIDTH)
    left, right = max(0, columns.start // _BLOCK * _BLOCK - _BLOCK), min(width, columns.stop + _BLOCK)
    top, bottom = max(0, rows.start - _BLOCK), min(height, rows.stop + _BLOCK)
    if library.tj3SetCroppingRegion(handle, _Region(left, top, right - left, bottom - top)) != 0:
        return None
    image = np.empty((height, width, 3), np.uint8)
    place = image.ctypes.data + top * image.strides[0] + left * image.strides[1]
    failed = library.tj3Decompress8(handle, data, len(data), place, image.strides[0], _RGB)
    return None if failed else image


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The system's libturbojpeg, which is looked after, before the one that the package of that name brings."""
    try:
        packaged = [str(file.locate()) for file in files("turbojpeg") or () if file.name.startswith("libturbojpeg")]
    except PackageNotFoundError:
        packaged = []
    for name in ("libturbojpeg.so.0", *packaged):
        try:
            library = ctypes.CDLL(name)
            _declare(library)
        except (OSError, AttributeError):  # not there, or an older API
            continue
        return library
    return None


def _declare(library: ctypes.CDLL) -> None:
    handle, number, data = ctypes.c_void_p, ctypes.c_int, (ctypes.c_char_p, ctypes.c_size_t)
    library.tj3Init.argtypes, library.tj3Init.restype = (number,), handle
    library.tj3Destroy.argtypes, library.tj3Destroy.restype = (handle,), None
    library.tj3Get.argtypes = (handle, number)
    library.tj3DecompressHeader.argtypes = (handle, *data)
    library.tj3SetCroppingRegion.argtypes = (handle, _Region)
    library.tj3Decompress8.argtypes = (handle, *data, ctypes.c_void_p, number, number)
