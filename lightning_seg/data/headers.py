"""What an image or mask file says of itself before its pixels."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lightning_seg.errors import UnreadableError

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap height and width."""


@dataclass(frozen=True, slots=True)
class Header:
    """Size, orientation and format of an image file.

    Attributes:
        stored: height and width as the pixels are stored.
        orientation: EXIF's, 1 where they are upright.
        format: Pillow's name of it, such as ``JPEG``.
    """

    stored: tuple[int, int]
    orientation: int
    format: str | None

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width once turned as the orientation says."""
        height, width = self.stored
        return (width, height) if self.orientation in _SIDEWAYS else (height, width)


def read_header(path: Path, what: str) -> Header:
    """Read no pixel.

    Raises:
        UnreadableError: if the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            # Pillow would decode a PNG to look for an orientation after its pixels.
            looks = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(_ORIENTATION, 1) if looks else 1
            return Header((image.height, image.width), orientation if orientation in range(1, 9) else 1, image.format)
    except FileNotFoundError:
        raise UnreadableError(f"{what} {path} does not exist") from None
    except Exception as error:  # of a damaged file: Pillow's formats raise what they like
        raise UnreadableError(f"{what} {path} cannot be read ({error}): replace or remove it") from None
