"""What is known of one image once it is predicted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.structures import DatasetInfo


@dataclass(frozen=True)
class Prediction:
    """One predicted image, of which a format asks for what it needs.

    Attributes:
        name: the files' relative path without suffix.
        labels: (H, W) class ids, at the stored size.
        info: class names and palette.
        image: gives the (H, W, 3) RGB uint8 image, upright.
        probabilities: gives (K, H, W) float32 that sum to 1.
    """

    name: str
    labels: NDArray[Any]
    info: DatasetInfo
    image: Callable[[], NDArray[np.uint8]]
    probabilities: Callable[[], NDArray[np.float32]]
