"""Reads masks as the values or colours that are stored, never as what a viewer would show."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.decoders import decode_grey, decode_stored, open_by_pillow
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.npy import in_native_order, npy_array
from lightning_seg.data.reading.orientation import turn_upright
from lightning_seg.data.reading.png import GREY, GREY_ALPHA
from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.data.reading.storage import named, open_file, read_bytes
from lightning_seg.errors import LossyMaskError, UnreadableError
from lightning_seg.sources import AnyFile

_EXPECTED = "class ids (grey, 16-bit or palette image) or colours (RGB, RGBA)"

_BYTE_IN_TWO = 257
"""A byte times this number fills 16 bits."""


@dataclass(frozen=True, slots=True)
class StoredMask:
    """What a mask file holds.

    Attributes:
        values: (H, W) uint8, or int32 for deeper files; None where only colours are stored.
        colours: (H, W, 3) uint8 of colour images; None for others.
        palette: (n, 3) uint8, the colour of each value of a palette image; None for others.
        alpha: (H, W) uint8 of colour images with an alpha channel, which counts for nothing; None for others.
    """

    values: NDArray[np.uint8 | np.int32] | None = None
    colours: NDArray[np.uint8] | None = None
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        array = self.values if self.values is not None else self.colours
        assert array is not None
        return array.shape[0], array.shape[1]


def read_mask(path: AnyFile, rules: ReadingRules = USUAL) -> StoredMask:
    """Decode a mask to what it stores, upright: indices of a palette image, never grey levels.

    Raises:
        UnreadableError: if the file is missing, damaged, or of a kind that holds no labels.
        LossyMaskError: if a compression such as JPEG's changed its values, or programs differ in what they are.
        UnfitImageError: if it has more pixels than are allowed.
    """
    with named(path, "mask"):
        data = read_bytes(path)
        header = header_of(BytesIO(data))
        rules.check_size(header.stored, path, "mask")
        _refuse_kind(path, header)
        stored = _decode(path, data, header)
        header.refuse_other_size(*stored.size)
    _refuse_change(path, header)
    return stored if header.orientation == 1 else _turned(stored, header.orientation)


def read_mask_part(
    path: AnyFile, rules: ReadingRules, size: tuple[int, int], rows: slice, columns: slice
) -> StoredMask | None:
    """Decode some rows and columns of a mask in a TIFF of one band or in a ``.npy`` file.

    Args:
        path: of the mask.
        rules: what may be read.
        size: height and width of its image.
        rows: that are needed.
        columns: likewise.

    Returns:
        None: it must be read whole, since it is of another format or size.

    Raises:
        UnreadableError, LossyMaskError, UnfitImageError: as :func:`read_mask`.
    """
    with named(path, "mask"), open_file(path) as file:
        header = header_of(file)
        rules.check_size(header.stored, path, "mask")
        _refuse_kind(path, header)
        plain = header.format in ("TIFF", "NPY") and header.samples == 1 and not header.indexed
        if not plain or header.bits < 8 or header.orientation != 1 or header.stored != size:
            return None
        _refuse_change(path, header)
        if header.format == "NPY":
            return _deep(path, in_native_order(npy_array(path if isinstance(path, Path) else file)[rows, columns, 0]))
        from lightning_seg.data.reading.geotiff import read_planes  # of an extra

        (values,), _ = read_planes(path if isinstance(path, Path) else file, header, (1,), rows, columns)
    return _deep(path, values)


def _refuse_change(path: AnyFile, header: Header) -> None:
    if header.lossy is not None:
        raise LossyMaskError(f"mask {path} is {header.lossy}, which changes label values: save masks as PNG")
    if header.inverted and header.bits > 1:
        raise LossyMaskError(
            f"mask {path} is a TIFF that stores white as 0 (WhiteIsZero), so that programs differ in which values they "
            "read: save masks as PNG"
        )


def _refuse_kind(path: AnyFile, header: Header) -> None:
    if header.pages > 1:
        raise UnreadableError(f"mask {path} has {header.described_pages}: expected a single image")
    is_translucent = header.format == "PNG" and header.variant == GREY_ALPHA
    if is_translucent or header.bands not in (1, 3) or header.type.startswith("float"):
        raise UnreadableError(
            f"mask {path} {header.described}{' and alpha' if is_translucent else ''}: expected {_EXPECTED}"
        )


def _decode(path: AnyFile, data: bytes, header: Header) -> StoredMask:
    if header.format == "PNG" and header.bits == 8 and header.variant == GREY:
        return StoredMask(values=decode_grey(data))
    if header.bits > 1 and (header.is_deep or header.format in ("PPM", "NPY")):
        return _deep(path, decode_stored(data, header))
    return _by_mode(path, data, header)


def _deep(path: AnyFile, stored: NDArray[Any]) -> StoredMask:
    if stored.ndim == 2:
        if stored.dtype == np.uint8:
            return StoredMask(values=stored)
        if stored.dtype.itemsize >= 4 and stored.dtype != np.int32 and _beyond(stored):
            raise UnreadableError(f"mask {path} has values of more than 31 bits: expected class ids")
        return StoredMask(values=stored.astype(np.int32))
    if stored.dtype == np.uint16:
        stored, rest = np.divmod(stored, _BYTE_IN_TWO)
        if rest.any():
            raise UnreadableError(
                f"mask {path} has colours of 16 bits, which are not those of 8 bits times {_BYTE_IN_TWO}, in "
                f"{np.count_nonzero(rest.any(axis=2))} pixels: save its colours with 8 bits"
            )
        stored = stored.astype(np.uint8)
    if stored.dtype != np.uint8:
        raise UnreadableError(f"mask {path} has colours of type {stored.dtype}: save its colours with 8 bits")
    return StoredMask(colours=stored[..., :3], alpha=stored[..., 3] if stored.shape[2] == 4 else None)


def _beyond(values: NDArray[Any]) -> bool:
    bounds = np.iinfo(np.int32)
    return bool(values.max() > bounds.max or values.min() < bounds.min)


def _by_mode(path: AnyFile, data: bytes, header: Header) -> StoredMask:
    image = open_by_pillow(data, header)
    if image.mode == "1":
        return StoredMask(values=np.asarray(image).astype(np.uint8))
    if image.mode == "L":
        values = np.asarray(image)
        return StoredMask(values=values // np.uint8(header.grey_step) if header.bits < 8 else values)
    if image.mode == "P":
        if header.format == "GIF":  # its writers renumber the values
            return StoredMask(colours=np.asarray(image.convert("RGB")))
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return StoredMask(values=np.asarray(image), palette=palette)
    if image.mode in ("RGB", "RGBA", "RGBX"):
        pixels = np.asarray(image)
        return StoredMask(colours=pixels[..., :3], alpha=pixels[..., 3] if image.mode == "RGBA" else None)
    raise UnreadableError(f"mask {path} has mode {image.mode}: expected {_EXPECTED}")


def _turned(stored: StoredMask, orientation: int) -> StoredMask:
    def turned(pixels: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if pixels is None else turn_upright(pixels, orientation)

    return StoredMask(turned(stored.values), turned(stored.colours), stored.palette, turned(stored.alpha))
