"""The forms that a result is sent in."""

import json
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.trained.result import Result


def as_json(result: Result) -> bytes:
    """Size, classes, pixels of each class, and the label map: the PNG of ``predict`` in Base64."""
    height, width = result.mask.shape
    return json.dumps(
        {
            "width": width,
            "height": height,
            "class_names": result.class_names,
            "palette": result.palette,
            "pixels": np.bincount(result.mask.ravel(), minlength=len(result.class_names)).tolist(),
            "mask": b64encode(result.encoded("masks")).decode("ascii"),
        }
    ).encode()


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) RGB image to look at."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


ANSWERS: dict[str, Callable[[Result], bytes]] = {
    "image/png": lambda result: result.encoded("masks"),
    "application/json": as_json,
    "image/jpeg": lambda result: result.encoded("overlays"),
}
"""What makes them, by media type; the first is the usual one."""
