"""Images that a caller gives: paths, and what is in memory already."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_seg.data.archives.places import located
from lightning_seg.data.reading.headers import read_header
from lightning_seg.data.reading.images import RGBImage, read_image
from lightning_seg.data.reading.orientation import ORIENTATION, turn_upright
from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.errors import DataError, UnfitImageError, UnreadableError

if TYPE_CHECKING:
    Given: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
    """A path, a PIL image, an (H, W, 3) uint8 RGB array or a (3, H, W) uint8 RGB tensor."""

_IN_MEMORY = Path("(in memory)")
"""What messages call an image that is no file."""

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_EXPECTED = "a path, a PIL image, an (H, W, 3) uint8 RGB array or a (3, H, W) uint8 RGB tensor"
_HINTS = {
    "bytes": ": open them, PIL.Image.open(io.BytesIO(data))",
    "generator": ": make it a list, list(images)",
    "list": ": lists do not nest",
}
"""What to do about some types that are no image."""


def path_of(given: Any) -> Path | None:
    """Where an image is; None for one in memory."""
    return Path(given).expanduser() if isinstance(given, str | os.PathLike) else None


def refuse_given(given: Any, rules: ReadingRules = USUAL) -> None:
    """Refuse what can be told to be unfit without decoding a pixel.

    Raises:
        UnreadableError: if a file is missing or no image.
        UnfitImageError: if an image has more pixels, pages or frames than are allowed.
        DataError: if it is no image, or an array of another shape or type.
    """
    if (path := path_of(given)) is not None:
        if path.is_dir():
            raise UnreadableError(
                f"{path} is a folder: give a list of its images, such as sorted(Path(…).glob('*.jpg'))"
            )
        read_header(located(path), "image", rules)
    elif isinstance(given, Image.Image):
        _refuse_picture(given)
        rules.check_size((given.height, given.width), _name(given), "image")
    elif isinstance(given, np.ndarray | Tensor):
        _refuse_array(given)
        height, width = given.shape[:2] if isinstance(given, np.ndarray) else given.shape[1:]
        rules.check_size((height, width), _IN_MEMORY, "image")
    else:
        raise DataError(f"it is {_described(given)}, but {_EXPECTED} is needed{_HINTS.get(type(given).__name__, '')}")


def read_given(given: Any, rules: ReadingRules = USUAL) -> RGBImage:
    """(H, W, 3) RGB uint8, upright, without alpha: the same of a file and of a PIL image that was opened from it.

    Args:
        given: what :func:`refuse_given` lets pass.
        rules: what may be read.

    Raises:
        DataError: as :func:`lightning_seg.data.reading.read_image`.
    """
    if (path := path_of(given)) is not None:
        return read_image(located(path), rules)
    if isinstance(given, Image.Image):
        return _of_picture(given, rules)
    if isinstance(given, Tensor):
        given = given.detach().permute(1, 2, 0).cpu().numpy()
    return np.array(given, order="C")  # a copy: the caller may use the memory again, as for the next frame of a video


def _of_picture(image: Image.Image, rules: ReadingRules) -> RGBImage:
    name = _name(image)
    try:
        image.load()  # which turns a TIFF and takes its tag away
        orientation = image.getexif().get(ORIENTATION, 1)  # XMP's where EXIF says nothing
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image)
            pixels = rules.as_bytes(values, name, f"has 1 band of {values.dtype.name}")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a palette with transparency, which is left out
                opaque = image.convert(_PREMULTIPLIED.get(image.mode, image.mode))
                pixels = np.array(opaque.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise UnreadableError(f"image {name} of mode {image.mode} cannot be read ({error})") from error
    return np.ascontiguousarray(turn_upright(pixels, orientation if orientation in range(1, 9) else 1))


def _refuse_picture(image: Image.Image) -> None:
    """Refuse what Pillow would cut: further pages, and a second byte of each colour."""
    name = _name(image)
    if (pages := getattr(image, "n_frames", 1)) > 1:
        raise UnfitImageError(f"image {name} has {pages} pages or frames, and one is expected: give a copy of one")
    raw = [str(tile[3]) for tile in getattr(image, "tile", ())]
    if image.mode in ("RGB", "RGBA", "LA") and any(";16" in mode for mode in raw):
        raise UnfitImageError(
            f"image {name} has 16 bits a band, of which Pillow keeps 8: give its path, so that data.value_range counts"
        )


def _refuse_array(given: NDArray[Any] | Tensor) -> None:
    shape = tuple(given.shape)
    is_array = isinstance(given, np.ndarray)
    expected = "(H, W, 3) uint8 RGB" if is_array else "(3, H, W) uint8 RGB"
    channels = shape[2 if is_array else 0] if len(shape) == 3 else None
    if channels == 3 and min(shape) > 0 and str(given.dtype).rpartition(".")[2] == "uint8":
        return
    hint = ""
    if len(shape) == 2:
        hint = ": repeat a grey image for three channels"
    elif channels == 4:
        hint = ": leave the fourth channel out"
    elif len(shape) == 3 and channels != 3 and shape[0 if is_array else 2] == 3:
        hint = ": move the channels to the end" if is_array else ": move the channels to the front"
    elif len(shape) == 4:
        hint = ": give a list of images"
    elif 0 in shape:
        hint = ": this one has no pixels"
    elif channels == 3:
        hint = ": convert values to 0 to 255, and to uint8"
    raise DataError(f"it is {_described(given)}, but {expected} is needed{hint}")


def _described(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f"an array of shape {given.shape} {given.dtype}"
    if isinstance(given, Tensor):
        return f"a tensor of shape {tuple(given.shape)} {str(given.dtype).removeprefix('torch.')}"
    return f"of type {type(given).__name__}"


def _name(image: Image.Image) -> Path:
    return Path(getattr(image, "filename", "") or _IN_MEMORY)
