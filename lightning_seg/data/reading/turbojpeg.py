"""Decodes a JPEG, or a part of it, by libjpeg-turbo 3 itself; the plain equivalent is Pillow's decoder.

No Python image library asks libjpeg for a part. The Huffman codes have to be read up to the last row that is wanted,
but transforms, upsampling and conversion of colours, which are most of the work, are left out for all other pixels. No
library says that a picture is damaged, either: libjpeg fills the rest with grey and counts a warning. Here that is an
error.
"""

import ctypes
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Of turbojpeg.h, version 3 of the API.
_DECOMPRESS = 1
_SUBSAMPLING, _WIDTH, _HEIGHT, _COLOUR_SPACE = 4, 5, 6, 8
_COMMON_SUBSAMPLINGS = range(5)
"""4:4:4, 4:2:2, 4:2:0, grey and 4:4:0: their blocks are at most 16 pixels wide."""
_COMMON_COLOUR_SPACES = range(3)
"""RGB, YCbCr and grey, which become RGB; the others, CMYK and YCCK, become CMYK."""
_RGB, _CMYK = 0, 11
_WARNING = 0

_BLOCK = 16
"""Parts begin at multiples of this. As much is decoded on each side, since colours are interpolated over blocks."""

_END = b"\xff\xd9"
_TRAILER = 4096
"""How many bytes may follow the end of a picture; a file with more might be cut off."""

_FEW = 16
"""How many equal bytes between the last pixel and the end are taken for padding, as some cameras write it."""
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class _Fraction(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("over", "under")]


def decode_part(data: bytes, rows: slice, columns: slice) -> NDArray[np.uint8] | None:
    """Decode only some rows and columns, to the same pixels as decoding the whole.

    Args:
        data: the file. An orientation is not applied.
        rows: of the image as it is stored, with step 1.
        columns: likewise.

    Returns:
        (H, W, 3) RGB uint8 of the whole size; pixels that were not asked for may hold anything. None: libjpeg-turbo 3
        is not installed, or the file must be decoded whole, or it may be cut off.

    Raises:
        ValueError: if the picture is damaged, up to the rows.
    """
    if _END not in data[-_TRAILER:]:
        return None
    return _decode(data, (rows, columns), 1)


def decode_whole(data: bytes, reduce: int = 1) -> NDArray[np.uint8] | None:
    """Decode all of a JPEG, to the same pixels as every other library.

    Args:
        data: the file. An orientation is not applied.
        reduce: 1; or 2, 4 or 8 for that fraction of the size, rounded up, at about half the cost.

    Returns:
        (H, W, 3) RGB uint8. None: libjpeg-turbo 3 is not installed, or cannot tell whether the file is damaged.

    Raises:
        ValueError: if the picture is damaged.
    """
    return _decode(data, None, reduce)


def _decode(data: bytes, part: tuple[slice, slice] | None, reduce: int) -> NDArray[np.uint8] | None:
    library = _library()
    if library is None:
        return None
    handle = library.tj3Init(_DECOMPRESS)
    try:
        if library.tj3DecompressHeader(handle, data, len(data)) != 0:
            return None
        if part is not None:
            return _decode_part(library, handle, data, *part)
        is_common = library.tj3Get(handle, _COLOUR_SPACE) in _COMMON_COLOUR_SPACES
        size = [-(-library.tj3Get(handle, side) // reduce) for side in (_HEIGHT, _WIDTH)]
        if library.tj3SetScalingFactor(handle, _Fraction(1, reduce)) != 0:
            return None
        image = np.empty((*size, 3 if is_common else 4), np.uint8)
        if not _fill(library, handle, data, image, image.ctypes.data):
            return None
        # Programs store CMYK inverted in JPEGs; Pillow assumes so, too.
        return image if is_common else np.asarray(Image.fromarray(255 - image, "CMYK").convert("RGB"))
    finally:
        library.tj3Destroy(handle)


def _decode_part(
    library: ctypes.CDLL, handle: int, data: bytes, rows: slice, columns: slice
) -> NDArray[np.uint8] | None:
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
    return image if _fill(library, handle, data, image, place) else None


def _fill(library: ctypes.CDLL, handle: int, data: bytes, image: NDArray[np.uint8], place: int) -> bool:
    """Decode to a place in an array; False if the library cannot.

    Raises:
        ValueError: if the picture is damaged.
    """
    kind = _RGB if image.shape[2] == 3 else _CMYK
    if library.tj3Decompress8(handle, data, len(data), place, image.strides[0], kind) == 0:
        return True
    if library.tj3GetErrorCode(handle) != _WARNING:
        return False
    warning = library.tj3GetErrorStr(handle).decode("latin-1")
    if (left_over := _LEFT_OVER.match(warning)) and _is_padding(data, int(left_over[1])):
        return True
    raise ValueError(warning)


def _is_padding(data: bytes, count: int) -> bool:
    ends = (match.start() for match in re.finditer(_END, data))
    return count <= _FEW and any(end > count and len(set(data[end - count : end])) == 1 for end in ends)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """Load libturbojpeg: the system's, which gets security updates, or else that of the package ``turbojpeg``."""
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
    library.tj3SetScalingFactor.argtypes = (handle, _Fraction)
    library.tj3GetErrorCode.argtypes = (handle,)
    library.tj3GetErrorStr.argtypes, library.tj3GetErrorStr.restype = (handle,), ctypes.c_char_p
    library.tj3DecompressHeader.argtypes = (handle, *data)
    library.tj3SetCroppingRegion.argtypes = (handle, _Region)
    library.tj3Decompress8.argtypes = (handle, *data, ctypes.c_void_p, number, number)
