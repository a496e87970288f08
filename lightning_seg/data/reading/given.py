"""Images that a caller gives: paths, and what is in memory already."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_seg.config_paths import expanded
from lightning_seg.data.archives.places import located
from lightning_seg.data.reading.absent import absent_pixels, fill_absent
from lightning_seg.data.reading.headers import read_header
from lightning_seg.data.reading.images import RGBImage, read_image
from lightning_seg.data.reading.orientation import ORIENTATION, turn_upright
from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.errors import DataError, UnfitImageError, UnreadableError

if TYPE_CHECKING:
    Given: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
    """A path, a PIL image, an (H, W, 3) uint8 RGB array or a (3, H, W) uint8 RGB tensor.

    For a model of ``data.bands``: a path, an (H, W, C) array or a (C, H, W) tensor of these bands, in their order, with
    values as files store them.
    """

_IN_MEMORY = Path("(in memory)")
"""What messages call an image that is no file."""

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_HINTS = {
    "bytes": ": open them, PIL.Image.open(io.BytesIO(data))",
    "generator": ": make it a list, list(images)",
    "list": ": lists do not nest",
}
"""What to do about some types that are no image."""


def path_of(given: Any) -> Path | None:
    """Where an image is; None for one in memory."""
    return Path(expanded(os.fspath(given))) if isinstance(given, str | os.PathLike) else None


def refuse_given(given: Any, rules: ReadingRules = USUAL) -> None:
    """Refuse what can be told to be unfit without decoding a pixel.

    Raises:
        UnreadableError: if a file is missing or no image.
        UnfitImageError: if an image has more pixels, pages or frames than are allowed.
        DataError: if it is no image, or an array of another shape, type or bands.
    """
    if (path := path_of(given)) is not None:
        if path.is_dir():
            raise UnreadableError(
                f"{path} is a folder: give a list of its images, such as sorted(Path(…).glob('*.jpg'))"
            )
        read_header(located(path), "image", rules)
    elif isinstance(given, Image.Image):
        if rules.bands is not None:
            raise DataError(
                f"it is a PIL image, which does not hold bands as files do, but {_expected(rules)} is needed"
            )
        _refuse_picture(given)
        rules.check_size((given.height, given.width), _name(given), "image")
    elif isinstance(given, np.ndarray | Tensor):
        _refuse_array(given, rules)
        height, width = given.shape[:2] if isinstance(given, np.ndarray) else given.shape[1:]
        rules.check_size((height, width), _IN_MEMORY, "image")
    else:
        hint = _HINTS.get(type(given).__name__, "")
        raise DataError(f"it is {_described(given)}, but {_expected(rules)} is needed{hint}")


def read_given(given: Any, rules: ReadingRules = USUAL) -> NDArray[Any]:
    """(H, W, 3) RGB uint8, upright, without alpha: the same of a file and of a PIL image that was opened from it.

    With ``rules.bands``, it is (H, W, C) of their type; a pixel that is not finite becomes ``rules.fill``.

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
        given = given.detach().permute(1, 2, 0).cpu()
        given = (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    # A copy: the caller may use the memory again, as for the next frame of a video.
    pixels = np.array(given, rules.dtype or np.uint8, order="C")
    if rules.bands is not None:
        fill_absent(pixels, absent_pixels(list(np.moveaxis(pixels, -1, 0))), rules.fill)
    return pixels


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


def _expected(rules: ReadingRules) -> str:
    """What a caller may give."""
    picture = "a PIL image, " if rules.bands is None else ""
    return f"a path, {picture}an {_needed(rules, True)} array or a {_needed(rules, False)} tensor"


def _needed(rules: ReadingRules, is_array: bool) -> str:
    """Shape, type and channels of an array or tensor."""
    count = rules.channels
    shape = f"(H, W, {count})" if is_array else f"({count}, H, W)"
    if rules.bands is None:
        return f"{shape} uint8 RGB"
    return f"{shape} {rules.dtype or 'uint8'} (bands {', '.join(map(str, rules.bands))})"


def _refuse_array(given: NDArray[Any] | Tensor, rules: ReadingRules) -> None:
    shape = tuple(given.shape)
    is_array = isinstance(given, np.ndarray)
    channels, needed = shape[2 if is_array else 0] if len(shape) == 3 else None, rules.channels
    held = str(given.dtype).rpartition(".")[2]
    if rules.bands is not None and rules.ranges is None and held != "bool":
        held = rules.type_of(held)  # as a file's
    if channels == needed and min(shape) > 0 and held == (rules.dtype or "uint8"):
        return
    hint = ""
    if len(shape) == 2 and rules.bands is None:
        hint = ": repeat a grey image for three channels"
    elif channels == 4 and rules.bands is None:
        hint = ": leave the fourth channel out"
    elif len(shape) == 3 and channels != needed and shape[0 if is_array else 2] == needed:
        hint = ": move the channels to the end" if is_array else ": move the channels to the front"
    elif len(shape) == 4:
        hint = ": give a list of images"
    elif 0 in shape:
        hint = ": this one has no pixels"
    elif channels == needed and rules.bands is None:
        hint = ": convert values to 0 to 255, and to uint8"
    elif channels == needed:
        hint = ": convert values to the units that the model was trained on, and to that type"
    raise DataError(f"it is {_described(given)}, but {_needed(rules, is_array)} is needed{hint}")


def _described(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f"an array of shape {given.shape} {given.dtype}"
    if isinstance(given, Tensor):
        return f"a tensor of shape {tuple(given.shape)} {str(given.dtype).removeprefix('torch.')}"
    return f"of type {type(given).__name__}"


def _name(image: Image.Image) -> Path:
    return Path(getattr(image, "filename", "") or _IN_MEMORY)
