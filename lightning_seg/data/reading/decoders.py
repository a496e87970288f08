"""Decodes pixels as they are stored, by the fastest library that reads a format exactly; it turns nothing."""

from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lightning_seg.data.reading import others, turbojpeg
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.npy import in_native_order, npy_array
from lightning_seg.data.reading.png import GREY, GREY_ALPHA, RGB, RGBA, check_png
from lightning_seg.data.reading.pnm import decode_pnm
from lightning_seg.data.reading.tiff import SEPARATE, band_of, without_orientation

_IN_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
"""A flag of OpenCV 4.11 and later; with older ones, the order of channels is changed afterwards."""

_OF_PILLOW = ("JPEG", "PNG", "TIFF", *others.FORMATS)


def decode_rgb(data: bytes, header: Header) -> NDArray[np.uint8]:
    """Decode an image of at most 8 bits to (H, W, 3) RGB; alpha is left out.

    Raises:
        ValueError, OSError, …: whatever the decoder raises, if the file is damaged, even where other programs would
            show a part of it.
    """
    if header.format == "JPEG":
        return _decode_jpeg(data)
    if header.format == "PNG" and header.bits == 8 and header.variant in (GREY, RGB, RGBA):
        check_png(data)
        flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_COLOR if _IN_RGB is None else _IN_RGB)
        pixels = _opencv(data, flags)
        return pixels if _IN_RGB is not None else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels))
    image = open_by_pillow(data, header)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def decode_reduced(data: bytes, reduce: int) -> NDArray[np.uint8]:
    """Decode a JPEG at 1/2, 1/4 or 1/8 of its size, rounded up, to (h, w, 3) RGB.

    A very narrow image may come larger than asked for, where libjpeg-turbo 3 is not installed.
    """
    if (pixels := turbojpeg.decode_whole(data, reduce)) is not None:
        return pixels
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        image.draft("RGB", (max(1, image.width // reduce), max(1, image.height // reduce)))
        return np.asarray(image.convert("RGB"))


def decode_grey(data: bytes) -> NDArray[np.uint8]:
    """Decode a grey PNG of 8 bits to (H, W)."""
    check_png(data)
    return _opencv(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_stored(data: bytes, header: Header) -> NDArray[Any]:
    """Decode values of any type to (H, W), or to (H, W, 3) or (H, W, 4) in the order of the file.

    Raises:
        ValueError, OSError, …: if the file is damaged, or has a type or compression that no library here reads.
    """
    if header.format == "PPM" and not header.type.startswith("float"):
        return decode_pnm(data)
    if header.format == "NPY":
        array = in_native_order(npy_array(BytesIO(data)))
        return array[..., 0] if header.bands == 1 else array
    try:
        return _by_common_libraries(data, header)
    except Exception:  # they raise what they like
        if header.format != "TIFF" or not header.layers or find_spec("rasterio") is None:
            raise
    from lightning_seg.data.reading.geotiff import read_planes  # of an extra; it reads more compressions and types

    everything = (slice(0, header.stored[0]), slice(0, header.stored[1]))
    planes, _ = read_planes(BytesIO(data), header, range(1, header.bands + 1), *everything)
    return planes[0] if header.bands == 1 else np.stack(planes, 2)


def _by_common_libraries(data: bytes, header: Header) -> NDArray[Any]:
    if header.variant == SEPARATE and header.format == "TIFF":  # OpenCV takes such bands for interleaved ones
        single = replace(header, bands=1, variant=0)
        return np.stack([_by_common_libraries(band_of(data, band), single) for band in range(header.bands)], axis=2)
    by_pillow = header.bands == 1 and header.variant != GREY_ALPHA
    if by_pillow and header.type not in ("int8", "uint32", "float64"):
        pixels = np.asarray(open_by_pillow(data, header))  # Pillow holds signed numbers in wider ones
        is_exact = (pixels.dtype.kind == "f") == header.type.startswith("float")
    else:
        if header.format == "PNG":
            check_png(data)
        pixels = _opencv(without_orientation(data) if header.format == "TIFF" else data, cv2.IMREAD_UNCHANGED)
        is_exact = pixels.dtype == header.type
        if pixels.ndim == 3:
            pixels = pixels[..., 0] if header.bands == 1 else pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    if not is_exact or (1 if pixels.ndim == 2 else 3) != header.bands:
        raise ValueError(f"it {header.described}, which no library here reads whole")
    return pixels


def decode_all(data: bytes, header: Header) -> NDArray[Any]:
    """Decode a file that is no TIFF to (H, W, bands) as stored, alpha too; a palette image has one band, of indices.

    Raises:
        ValueError, OSError, …: whatever the decoder raises, if the file is damaged.
    """
    if header.is_deep:
        pixels = decode_stored(data, header)
    elif header.format == "JPEG":
        pixels = decode_rgb(data, header)[..., : header.bands]
    elif header.format == "PNG" and header.variant == RGB:
        pixels = decode_rgb(data, header)
    else:
        image = open_by_pillow(data, header)
        known = image.mode in ("1", "L", "P", "LA", "RGB", "RGBA")
        pixels = np.asarray(image if known else image.convert("RGB")).astype(np.uint8)
        if image.mode == "L" and header.bits < 8:
            pixels //= np.uint8(header.grey_step)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def open_by_pillow(data: bytes, header: Header) -> Image.Image:
    """Open an image and load its pixels as they are stored."""
    if header.format == "PNG":
        check_png(data)
    file = BytesIO(without_orientation(data) if header.format == "TIFF" else data)
    try:
        image = Image.open(file, formats=_OF_PILLOW)
    except UnidentifiedImageError:
        raise ValueError(f"it is a {header.format} of a kind that no library here reads") from None
    image.info.pop("xmp", None)  # by which Pillow would turn a TIFF
    image.load()  # Image.open reads the header alone, and verify() lets truncated files pass
    return image


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    if (pixels := turbojpeg.decode_whole(data)) is not None:
        return pixels
    if (pixels := _decode_by_torchvision(data)) is not None:
        return pixels
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


def _decode_by_torchvision(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a grey or RGB JPEG at two thirds of Pillow's cost; None: let Pillow decode it, or say what is wrong."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:  # torchvision 0.29 says that a later release will be without; Pillow gives the same pixels
        return None
    try:
        decoded = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    except RuntimeError:
        return None
    array: NDArray[np.uint8] = decoded.permute(1, 2, 0).numpy()  # as it lies in memory: no copy
    channels = array.shape[2]
    return array if channels == 3 else np.repeat(array, 3, axis=2) if channels == 1 else None


def _opencv(data: bytes, flags: int) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("its pixels are damaged, or stored in a way that OpenCV does not read")
    return np.asarray(pixels)
