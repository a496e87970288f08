"""Every figure of one evaluation, as it is logged and as ``metrics.json`` holds it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_seg.metrics import functional
from lightning_seg.metrics.functional import AbsentClasses


@dataclass(frozen=True)
class Report:
    """The result of evaluating one split.

    Attributes:
        split: ``val`` or ``test``.
        class_names: K names in id order.
        matrix: (K, K) int64 counts, on the CPU.
        num_images: how many images were counted, over all processes.
        absent_classes: the averaging rule of mIoU.
    """

    split: str
    class_names: Sequence[str]
    matrix: Tensor
    num_images: int
    absent_classes: AbsentClasses

    @property
    def averages(self) -> dict[str, float]:
        return {
            "mIoU": functional.mean_iou(self.matrix, self.absent_classes).item(),
            "mAcc": functional.mean_accuracy(self.matrix).item(),
            "pAcc": functional.pixel_accuracy(self.matrix).item(),
            "fwIoU": functional.frequency_weighted_iou(self.matrix).item(),
        }

    @property
    def iou(self) -> dict[str, float]:
        values = functional.iou_per_class(self.matrix, self.absent_classes).tolist()
        return dict(zip(self.class_names, values, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``; figures that do not exist are null."""
        return {
            "split": self.split,
            **_without_nan(self.averages),
            "IoU": _without_nan(self.iou),
            "confusion_matrix": self.matrix.tolist(),
            "num_images": self.num_images,
            "num_valid_pixels": int(self.matrix.sum()),
            "absent_classes": self.absent_classes,
        }


def _without_nan(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
