"""Turns class ids into colours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.structures import DatasetInfo


def colourise(labels: NDArray[Any], info: DatasetInfo) -> NDArray[np.uint8]:
    """Turn (H, W) class ids into (H, W, 3) RGB; what is no class gets the colour of ignored pixels."""
    colours = np.array([*info.palette, info.ignore_colour], np.uint8)
    ids = labels.astype(np.intp)
    picture: NDArray[np.uint8] = colours[np.where((ids >= 0) & (ids < info.num_classes), ids, info.num_classes)]
    return picture
