"""Losses to choose from in a configuration."""

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
