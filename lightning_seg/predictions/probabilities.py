"""Class probabilities as NumPy archives, of half precision or of 8 bits; the largest of each pixel as a picture."""

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.predictions.prediction import Prediction


def half(prediction: Prediction, file: IO[bytes]) -> None:
    """``probabilities``, (K, H, W) float16, and ``class_names``; each is off by at most 0.00025."""
    _write(file, prediction, prediction.probabilities().astype(np.float16))


def bytes_of(prediction: Prediction, file: IO[bytes]) -> None:
    """``probabilities``, (K, H, W) uint8 in steps of 1/255, and ``class_names``; each is off by at most 0.002."""
    _write(file, prediction, np.rint(prediction.probabilities() * 255).astype(np.uint8))


def confidence(prediction: Prediction, file: IO[bytes]) -> None:
    """A grey PNG (H, W) of 8 bits: the largest class probability of each pixel, times 255 and rounded."""
    Image.fromarray(np.rint(prediction.probabilities().max(0) * 255).astype(np.uint8)).save(file, "PNG")


def _write(file: IO[bytes], prediction: Prediction, probabilities: NDArray[Any]) -> None:
    # NumPy dates its members 1980: the same numbers are the same bytes.
    np.savez_compressed(file, probabilities=probabilities, class_names=np.array(prediction.info.names, np.str_))
