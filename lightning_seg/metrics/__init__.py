"""Computes exact figures from integer confusion matrices."""

from lightning_seg.metrics.confusion import ConfusionMatrix, EachImage
from lightning_seg.metrics.evaluation import Evaluation
from lightning_seg.metrics.functional import AbsentClasses
from lightning_seg.metrics.images import ImageFigures
from lightning_seg.metrics.report import Report

__all__ = ["AbsentClasses", "ConfusionMatrix", "EachImage", "Evaluation", "ImageFigures", "Report"]
