"""From a file to an array: images as RGB uint8, masks as the values that are stored."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lightning_seg.errors import DataError

_MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")
_DEEP_GREY_MODES = ("I;16", "I;16B", "I;16L", "I")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image of any mode, turned upright as its EXIF orientation says.

    Returns:
        (H, W, 3) RGB uint8. 16-bit greys keep their upper eight bits.

    Raises:
        DataError: if the file is missing, truncated or no image.
    """
    image = ImageOps.exif_transpose(_load(path, "image"))
    if image.mode in _DEEP_GREY_MODES:
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.uint8 | np.int32]:
    """Decode a label file to its stored values: indices of a palette PNG, never its grey levels.

    Returns:
        (H, W) uint8, or int32 for 16-bit files.

    Raises:
        DataError: if the file is missing, unreadable, a JPEG (which changes label values) or a colour image.
    """
    image = _load(path, "mask")
    if image.format == "JPEG":
        raise DataError(f"mask {path} is a JPEG, whose compression changes label values: save masks as PNG")
    if image.mode not in _MASK_MODES:
        raise DataError(
            f"mask {path} has mode {image.mode}: expected one channel of class ids (greyscale, 16-bit or palette PNG)"
        )
    values = np.asarray(image)
    return values.astype(np.uint8) if image.mode in ("1", "L", "P") else values.astype(np.int32)


def check_ids(mask: NDArray[np.uint8 | np.int32], num_classes: int, ignore_index: int, path: Path) -> None:
    """Refuse a mask that holds anything but class ids and the ignore index.

    Raises:
        DataError: naming each foreign value and how many pixels have it.
    """
    foreign = ((mask < 0) | (mask >= num_classes)) & (mask != ignore_index)
    if not foreign.any():
        return
    values, counts = np.unique(mask[foreign], return_counts=True)
    listed = ", ".join(f"{value} in {count} pixels" for value, count in zip(values[:5], counts[:5], strict=True))
    more = f" and {len(values) - 5} more values" if len(values) > 5 else ""
    raise DataError(
        f"{path} has class id {listed}{more}, but data.classes names {num_classes} classes (0 to {num_classes - 1}) "
        f"and data.ignore_index is {ignore_index}: add the missing classes, or set data.ignore_index"
    )


def _load(path: Path, what: str) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()  # Image.open reads the header alone, and verify() lets truncated files pass
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} {path} cannot be read ({error}): replace or remove it") from None
    return image
