"""Exact figures from one integer confusion matrix."""

from lightning_seg.metrics.confusion import ConfusionMatrix
from lightning_seg.metrics.functional import AbsentClasses
from lightning_seg.metrics.report import Report

__all__ = ["AbsentClasses", "ConfusionMatrix", "Report"]
