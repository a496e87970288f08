"""Label maps as indexed PNGs, and as overlays to look at."""

from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.data.labels.colours import colourise
from lightning_seg.errors import UnfitImageError
from lightning_seg.predictions.prediction import Prediction
from lightning_seg.structures import DatasetInfo

_JPEG_QUALITY = 90

JPEG_SIDE = 65_500
"""Pixels of a side that libjpeg writes at the most."""


def overlay(
    image: NDArray[np.uint8], labels: NDArray[Any], info: DatasetInfo, opacity: float = 0.55
) -> NDArray[np.uint8]:
    """The (H, W, 3) RGB uint8 image with its (H, W) label map laid over it, of the image's shape and type."""
    return cv2.addWeighted(image, 1 - opacity, colourise(labels, info), opacity, 0).astype(np.uint8)


def write_mask(file: IO[bytes], labels: NDArray[Any], info: DatasetInfo) -> None:
    """Write (H, W) class ids as a PNG: indexed with the palette up to 256 classes, 16-bit above."""
    if info.num_classes > 256:
        Image.fromarray(labels.astype(np.uint16)).save(file, "PNG")
        return
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([value for colour in info.palette for value in colour])
    image.save(file, "PNG")


def masks(prediction: Prediction, file: IO[bytes]) -> None:
    """As :func:`write_mask`."""
    write_mask(file, prediction.labels, prediction.info)


def overlays(prediction: Prediction, file: IO[bytes]) -> None:
    """A JPEG of :func:`overlay`.

    Raises:
        UnfitImageError: if a side is longer than a JPEG's can be.
    """
    height, width = prediction.labels.shape
    if max(height, width) > JPEG_SIDE:
        raise UnfitImageError(
            f"the overlay of {prediction.name} would be {width}×{height} pixels, and a JPEG's sides have at most "
            f"{JPEG_SIDE}: leave overlays out of --save, or take Result.overlay()"
        )
    picture = overlay(prediction.image(), prediction.labels, prediction.info)
    Image.fromarray(picture).save(file, "JPEG", quality=_JPEG_QUALITY)
