"""Losses that a configuration can choose as ``model.criterion``."""

from lightning_seg.losses.criteria import (
    OHEM,
    BoundaryWeighted,
    Criterion,
    CrossEntropy,
    Dice,
    Focal,
    HardPixelMining,
    LovaszSoftmax,
)
from lightning_seg.losses.weighted_sum import WeightedSum

__all__ = [
    "OHEM",
    "BoundaryWeighted",
    "Criterion",
    "CrossEntropy",
    "Dice",
    "Focal",
    "HardPixelMining",
    "LovaszSoftmax",
    "WeightedSum",
]
