"""Reports every figure of one evaluation, for loggers and for ``metrics.json``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from lightning_seg.metrics import functional
from lightning_seg.metrics.calibration import Calibration
from lightning_seg.metrics.error_budget import ErrorBudget, error_budget
from lightning_seg.metrics.functional import AbsentClasses
from lightning_seg.metrics.images import ImageFigures
from lightning_seg.structures import over_classes

_NOT_LOGGED = ("mPrecision", "mRecall")
"""Figures that only ``metrics.json`` has: by Detectron2's rule mRecall is mAcc, and mDice combines the two."""


@dataclass(frozen=True)
class Report:
    """The result of evaluating one split.

    Attributes:
        split: ``val`` or ``test``.
        class_names: K names in id order.
        matrix: (K, K) int64 counts, on the CPU.
        images: the figures of each image.
        absent_classes: the averaging rule over classes.
        map_figures: figures that were counted from the label maps, by name, (K,) float64 each.
        error_kinds: (3 · K, K) int64, the rows of :func:`~lightning_seg.metrics.error_kinds.count_kinds` one after the
            other, or None.
        calibration: what was counted of confidences; None: nothing.
    """

    split: str
    class_names: Sequence[str]
    matrix: Tensor
    images: ImageFigures
    absent_classes: AbsentClasses
    map_figures: Mapping[str, Tensor] = field(default_factory=dict)
    error_kinds: Tensor | None = None
    calibration: Calibration | None = None

    @cached_property
    def _of_classes(self) -> dict[str, Tensor]:
        """Figures of each class by name, (K,) float64 each; NaN for a class that the rule leaves out."""
        counts = (self.matrix, self.absent_classes)
        return {
            "IoU": functional.iou_per_class(*counts),
            "Dice": functional.dice_per_class(*counts),
            "Precision": functional.precision_per_class(*counts),
            "Recall": functional.recall_per_class(*counts),
            **self.map_figures,
        }

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """``IoU``, ``Dice``, ``Precision``, ``Recall`` and those of :attr:`map_figures`, each by class name."""
        return {
            figure: dict(zip(self.class_names, values.tolist(), strict=True))
            for figure, values in self._of_classes.items()
        }

    @cached_property
    def averages(self) -> dict[str, float]:
        """The figures of the whole split; a name that begins with ``m`` is a mean over classes."""
        figures = {
            **functional.averages(self.matrix, self.absent_classes),
            **{f"m{figure}": values.nanmean() for figure, values in self._of_classes.items() if figure != "IoU"},
            "mIoU_per_image": functional.worst_mean(self.images.mean_iou, share=1.0),
            "mIoU_worst_tenth": functional.worst_mean(self.images.mean_iou, share=0.1),
        }
        return {name: value.item() for name, value in figures.items()}

    @property
    def logged(self) -> dict[str, float]:
        """The figures for loggers: the mean loss of the images, averages, and ``IoU/<class>``."""
        return {
            "loss": self.images.mean_loss.item(),
            **{name: value for name, value in self.averages.items() if name not in _NOT_LOGGED},
            **({} if self.calibration is None else {"ECE": self.calibration.error}),
            **{f"IoU/{name}": value for name, value in self.per_class["IoU"].items()},
        }

    @cached_property
    def averaged_classes(self) -> int:
        """How many classes have an IoU; mIoU is their mean."""
        return int(self._of_classes["IoU"].isfinite().sum())

    @property
    def over_classes(self) -> str:
        """``" over 1 of 2 classes"`` if mIoU leaves classes out, else empty."""
        return over_classes(self.averaged_classes, len(self.class_names))

    @cached_property
    def error_budget(self) -> ErrorBudget | None:
        """What each kind of error costs; None if that was not counted, or no pixel counts."""
        if self.error_kinds is None:
            return None
        kinds = self.error_kinds.view(-1, *self.matrix.shape)
        return error_budget(self.matrix, kinds, self.class_names, self.absent_classes)

    def as_json(self) -> dict[str, Any]:
        """The report in plain values for ``metrics.json``; a figure that does not exist is null."""
        return {
            "split": self.split,
            **without_nan(self.averages),
            **{figure: without_nan(values) for figure, values in self.per_class.items()},
            "confusion_matrix": self.matrix.tolist(),
            "num_images": len(self.images),
            "num_valid_pixels": int(self.matrix.sum()),
            "absent_classes": self.absent_classes,
            "num_averaged_classes": self.averaged_classes,
            **({} if self.error_budget is None else {"errors": self.error_budget.as_json()}),
            **({} if self.calibration is None else {"calibration": self.calibration.as_json()}),
        }


def without_nan(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures with None for those that do not exist, since JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
