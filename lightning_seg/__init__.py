"""Semantic segmentation with Detectron2's models, trained by PyTorch Lightning.

The names below are imported when they are first used, so ``import lightning_seg`` itself loads nothing. Images are
always RGB, for every network.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
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


def _keep_transformers_out_of_torchmetrics() -> None:
    """Let torchmetrics, which Lightning imports, find no transformers: it would import it for metrics of texts.

    That would take a second at every start. Mask2FormerHead imports what it needs.
    """
    if "torchmetrics" in sys.modules or find_spec("transformers") is None or find_spec("lightning_utilities") is None:
        return
    from lightning_utilities.core.imports import RequirementCache

    check = RequirementCache._check_available

    def check_others(cache: RequirementCache) -> None:
        if (cache.requirement or "").startswith("transformers"):
            cache.available, cache.message = False, "lightning_seg keeps transformers out of torchmetrics"
        else:
            check(cache)

    RequirementCache._check_available = check_others  # type: ignore[assignment, method-assign]


_keep_transformers_out_of_torchmetrics()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
