"""How an image is evaluated, and from the scores of a network to its label map; knows no model class."""

from lightning_seg.inference.augmented import Augmented
from lightning_seg.inference.method import WHOLE, Answer, Inference, Losses, Told, Watch, Whole, WindowedImage
from lightning_seg.inference.placing import Bands
from lightning_seg.inference.sliding import SlidingWindow

__all__ = [
    "WHOLE",
    "Answer",
    "Augmented",
    "Bands",
    "Inference",
    "Losses",
    "SlidingWindow",
    "Told",
    "Watch",
    "Whole",
    "WindowedImage",
]
