"""From a file to an array: images as RGB uint8, masks as the values or colours that are stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lightning_seg.data.jpeg import decode_part
from lightning_seg.errors import LossyMaskError, UnreadableError

try:
    from torchvision.io import ImageReadMode, decode_image
except ImportError:  # torchvision 0.29 says that a later release will be without; Pillow gives the same pixels
    decode_image = None

_DEEP_GREY_MODES = ("I;16", "I;16B", "I;16L", "I")
_LOSSY_FORMATS = ("JPEG", "MPO", "JPEG2000")
_PNG_DEPTH, _PNG_KIND = 24, 25
"""Where a PNG's header holds its bits per channel, and its kind: 0 grey, 2 RGB, 3 palette."""


@dataclass(frozen=True, slots=True)
class StoredMask:
    """What a label file holds.

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


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image of any mode, turned upright as its EXIF orientation says.

    Returns:
        (H, W, 3) RGB uint8. 16-bit greys keep their upper eight bits.

    Raises:
        UnreadableError: if the file is missing, truncated or no image.
    """
    data = _bytes_of(path, "image")
    if (fast := _decode_plainly(data, for_image=True)) is not None:
        return fast
    return _upright_rgb(_open(path, "image"))


def read_reduced(path: Path, reduce: int) -> NDArray[np.uint8]:
    """Decode a JPEG at a fraction of its size, at about half the cost.

    The pixels are those of libjpeg's smaller transform: on average 0.3 grey levels from bilinear scaling at ½.

    Args:
        path: of the image.
        reduce: 2, 4 or 8.

    Returns:
        (h, w, 3) RGB uint8, upright.

    Raises:
        UnreadableError: as :func:`read_image`.
    """
    return _upright_rgb(_open(path, "image", reduce))


def read_part(path: Path, rows: slice, columns: slice) -> NDArray[np.uint8]:
    """Decode some rows and columns of an upright JPEG where libjpeg-turbo 3 is installed; else the whole.

    Returns:
        (H, W, 3) RGB uint8 of the whole size; pixels that were not asked for may hold anything.

    Raises:
        UnreadableError: as :func:`read_image`, but not for damage behind the rows.
    """
    part = decode_part(_bytes_of(path, "image"), rows, columns)
    return read_image(path) if part is None else part


def read_mask(path: Path) -> StoredMask:
    """Decode a label file to what it stores: indices of a palette image, never its grey levels.

    Raises:
        UnreadableError: if the file is missing or unreadable.
        LossyMaskError: if it is of a format that changes label values (JPEG).
    """
    data = _bytes_of(path, "mask")
    if (plain := _decode_plainly(data, for_image=False)) is not None:
        return StoredMask(values=plain)
    image = _open(path, "mask")
    lossy_webp = image.format == "WEBP" and data[12:16] == b"VP8 "
    if image.format in _LOSSY_FORMATS or lossy_webp:
        raise LossyMaskError(
            f"mask {path} is a {'lossy WebP' if lossy_webp else image.format}, whose compression changes label values: "
            "save masks as PNG"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableError(f"mask {path} has {image.n_frames} frames: expected a single image")  # type: ignore[attr-defined]
    if image.mode in ("1", "L"):
        return StoredMask(values=_unstretched(np.asarray(image).astype(np.uint8), path))
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        if image.format == "GIF":  # its writers renumber the values
            return StoredMask(colours=np.asarray(image.convert("RGB")))
        return StoredMask(values=np.asarray(image), palette=colours)
    if image.mode in _DEEP_GREY_MODES:
        return StoredMask(values=np.asarray(image).astype(np.int32))
    if image.mode in ("RGB", "RGBA", "RGBX") and _png_depth(data) != 16:
        pixels = np.asarray(image)
        return StoredMask(colours=pixels[..., :3], alpha=pixels[..., 3] if image.mode == "RGBA" else None)
    raise UnreadableError(
        f"mask {path} has mode {image.mode}{' of 16 bits' if _png_depth(data) == 16 else ''}: expected class ids "
        "(grey, 16-bit or palette image) or colours (RGB, RGBA)"
    )


def _upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3), turned as EXIF says; an upright RGB image is copied once."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _DEEP_GREY_MODES:
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _bytes_of(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableError(f"{what} {path} does not exist") from None
    except OSError as error:
        raise UnreadableError(f"{what} {path} cannot be read ({error.strerror}): mend or remove it") from None


def _png_depth(data: bytes) -> int | None:
    return data[_PNG_DEPTH] if data[:4] == b"\x89PNG" and len(data) > _PNG_KIND else None


def _png_kind(data: bytes) -> int | None:
    return data[_PNG_KIND] if data[:4] == b"\x89PNG" and len(data) > _PNG_KIND else None


def _decode_plainly(data: bytes, *, for_image: bool) -> NDArray[np.uint8] | None:
    """Decode what torchvision is known to decode to Pillow's pixels, at about a third of its cost; None: not that.

    Images: JPEG and 8-bit RGB PNG, to (H, W, 3). Masks: 8-bit grey PNG, to (H, W).
    """
    is_jpeg = data[:2] == b"\xff\xd8"
    wanted_kind = 2 if for_image else 0
    is_plain_png = _png_depth(data) == 8 and _png_kind(data) == wanted_kind
    if decode_image is None or not ((is_jpeg and for_image) or is_plain_png):
        return None
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        decoded = decode_image(buffer, ImageReadMode.UNCHANGED, apply_exif_orientation=for_image)
    except RuntimeError:
        return None  # Pillow says what is wrong, or is more lenient
    array: NDArray[np.uint8] = decoded.permute(1, 2, 0).numpy()  # as it lies in memory: no copy
    channels = array.shape[2]
    if for_image:
        return array if channels == 3 else np.repeat(array, 3, axis=2) if channels == 1 else None
    return array[..., 0] if channels == 1 else None


def _unstretched(values: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Values of a 2- or 4-bit grey file as stored: Pillow stretches them to 0…255."""
    with Image.open(path) as image:
        arguments: Any = image.tile[0].args if image.tile else ""
    raw_mode = arguments[0] if isinstance(arguments, tuple) else arguments
    stretch = {"L;2": 85, "L;4": 17}.get(raw_mode, 1)
    return values // stretch if stretch > 1 else values


def _open(path: Path, what: str, reduce: int = 1) -> Image.Image:
    try:
        image = Image.open(path)
        if reduce > 1:
            image.draft("RGB", (image.width // reduce, image.height // reduce))
        image.load()  # Image.open reads the header alone, and verify() lets truncated files pass
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"{what} {path} cannot be read ({error}): replace or remove it") from None
    return image
