"""From the scores of a network to label maps and probabilities; knows no model class."""

from lightning_seg.inference.method import Answer, Bands, Inference, Losses, Whole, WindowedImage

__all__ = ["Answer", "Bands", "Inference", "Losses", "Whole", "WindowedImage"]
