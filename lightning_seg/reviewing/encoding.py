"""Gives pixels of a mask file another stored value, in the file's own encoding."""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.colours import Colour
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.storage import named, read_bytes
from lightning_seg.errors import DataError, DependencyError
from lightning_seg.sources import AnyFile

Pixels = NDArray[np.bool_]
"""A region of an image, (H, W)."""


def with_value(mask: AnyFile, region: Pixels, value: int | Colour) -> bytes:
    """The bytes of a mask file in which a region has another value.

    Args:
        mask: the file.
        region: (H, W).
        value: a stored value, or a colour of 8 bits a channel.

    Raises:
        DataError: if a file of this kind is not written.
        DependencyError: if it is a TIFF, and what writes those is missing.
    """
    with named(mask, "mask"):
        data = read_bytes(mask)
        header = header_of(BytesIO(data))
    if header.orientation != 1:
        raise DataError(f"mask {mask} is stored turned: nothing writes it so; save it upright")
    return _written(mask, data, header, region, value)


def as_png(pixels: NDArray[Any]) -> bytes:
    """A PNG file of (H, W) or (H, W, C) uint8 or uint16, whose colours are blue, green, red."""
    return bytes(cv2.imencode(".png", pixels)[1])


def _written(mask: AnyFile, data: bytes, header: Header, region: Pixels, value: int | Colour) -> bytes:
    if header.format == "NPY":
        array = np.load(BytesIO(data))
        array[region] = value
        output = BytesIO()
        np.save(output, array)
        return output.getvalue()
    if header.format == "TIFF":
        return _tiff(mask, data, region, value)
    if header.format == "PNG" and header.bits == 16:
        pixels = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        pixels[region] = value if isinstance(value, int) else _bgr16(value, pixels.shape[2])
        return as_png(pixels)
    return _by_pillow(mask, data, region, value)


def _bgr16(colour: Colour, channels: int) -> list[int]:
    return [*(value * 257 for value in colour[::-1]), 65535][:channels]


def _by_pillow(mask: AnyFile, data: bytes, region: Pixels, value: int | Colour) -> bytes:
    image = Image.open(BytesIO(data))
    kind, mode = image.format, image.mode
    if kind not in ("PNG", "BMP", "PPM", "TGA") or mode not in ("1", "L", "P", "RGB", "RGBA"):
        raise DataError(f"mask {mask} is {kind} of mode {mode}, which is not written: save masks as PNG")
    pixels = np.array(image)
    palette = image.getpalette("RGB") if mode == "P" else None
    if palette is not None:
        pixels, palette = _in_palette(mask, pixels, palette, region, value)
    elif isinstance(value, int):
        pixels[region] = value
    else:
        pixels[region, :3] = value
    new = Image.fromarray(pixels)
    if palette is not None:
        new.putpalette(palette)
    output = BytesIO()
    extra = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    new.save(output, kind, **extra)
    return output.getvalue()


def _in_palette(
    mask: AnyFile, pixels: NDArray[Any], palette: list[int], region: Pixels, value: int | Colour
) -> tuple[NDArray[Any], list[int]]:
    """Indices in which the region has the value, and the palette that then names them."""
    if isinstance(value, int):
        pixels[region] = value
        return pixels, palette + [0] * max(0, 3 * (value + 1) - len(palette))
    colours = [tuple(palette[start : start + 3]) for start in range(0, len(palette), 3)]
    if value not in colours:
        if len(colours) == 256:
            raise DataError(f"mask {mask} has a full palette, and none of its colours is that of ignored pixels")
        colours.append(value)
        palette = [*palette, *value]
    pixels[region] = colours.index(value)
    return pixels, palette


def _tiff(mask: AnyFile, data: bytes, region: Pixels, value: int | Colour) -> bytes:
    """By GDAL, which keeps where it lies, its tags and its colours."""
    try:
        from rasterio.io import MemoryFile
    except ImportError:
        raise DependencyError(f"mask {mask} is a TIFF: pip install 'lightning_seg[geo]' to write it") from None
    with MemoryFile(data) as memory, memory.open() as source:
        bands, profile, tags = source.read(), source.profile, source.tags()
        colours = None
        if source.count == 1 and "palette" in str(source.colorinterp[0]):
            colours = source.colormap(1)
        values = [value] if isinstance(value, int) else list(value)
        for band, one in zip(bands, values, strict=False):
            band[region] = one
        with MemoryFile() as output:
            with output.open(**profile) as target:
                target.write(bands)
                target.update_tags(**tags)
                if colours is not None:
                    target.write_colormap(1, colours)
            return bytes(output.read())
