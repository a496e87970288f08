"""Class probabilities as NumPy archives, of half precision or of 8 bits."""

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.predictions.prediction import Prediction


def half(prediction: Prediction, file: IO[bytes]) -> None:
    """``probabilities``, (K, H, W) float16, and ``class_names``; each is off by at most 0.00025."""
    _write(file, prediction, prediction.probabilities().astype(np.float16))


def bytes_of(prediction: Prediction, file: IO[bytes]) -> None:
    """``probabilities``, (K, H, W) uint8 in steps of 1/255, and ``class_names``; each is off by at most 0.002."""
    _write(file, prediction, np.rint(prediction.probabilities() * 255).astype(np.uint8))


def _write(file: IO[bytes], prediction: Prediction, probabilities: NDArray[Any]) -> None:
    # NumPy dates its members 1980: the same numbers are the same bytes.
    np.savez_compressed(file, probabilities=probabilities, class_names=np.array(prediction.info.names, np.str_))
