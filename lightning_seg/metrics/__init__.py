"""Exact figures from integer confusion matrices."""

from lightning_seg.metrics.confusion import ConfusionMatrix, ImageIoU
from lightning_seg.metrics.evaluation import Evaluation
from lightning_seg.metrics.functional import AbsentClasses
from lightning_seg.metrics.report import Report

__all__ = ["AbsentClasses", "ConfusionMatrix", "Evaluation", "ImageIoU", "Report"]
