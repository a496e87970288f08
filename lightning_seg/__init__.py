"""Semantic segmentation with Detectron2's models, trained by PyTorch Lightning.

The names below are imported when they are first used, so ``import lightning_seg`` itself loads nothing. Images are
RGB, for every network, unless ``data.bands`` says otherwise.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.data import SegmentationDataModule
    from lightning_seg.module import SegmentationModule
    from lightning_seg.predictor import Predictor, load
    from lightning_seg.trained.result import Result
    from lightning_seg.training import Run, fit

__all__ = ["Predictor", "Result", "Run", "SegmentationDataModule", "SegmentationModule", "fit", "load"]

_PLACES = {
    "Predictor": "lightning_seg.predictor",
    "Result": "lightning_seg.trained.result",
    "Run": "lightning_seg.training",
    "SegmentationDataModule": "lightning_seg.data",
    "SegmentationModule": "lightning_seg.module",
    "fit": "lightning_seg.training",
    "load": "lightning_seg.predictor",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
