"""The formats that a prediction is written in; ``formats.py`` has the table of their names."""

from lightning_seg.predictions.formats import (
    FORMATS,
    PROBABILITIES,
    USUAL_FORMATS,
    Format,
    formats_of,
    refuse_misfits,
    save,
)
from lightning_seg.predictions.pictures import overlay, write_mask
from lightning_seg.predictions.prediction import Prediction

__all__ = [
    "FORMATS",
    "PROBABILITIES",
    "USUAL_FORMATS",
    "Format",
    "Prediction",
    "formats_of",
    "overlay",
    "refuse_misfits",
    "save",
    "write_mask",
]
