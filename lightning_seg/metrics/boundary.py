"""Counts near the boundaries of label maps, by the rule of Detectron2's evaluator."""

from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.metrics.functional import confusion_matrix, iou_per_class, is_counted
from lightning_seg.metrics.map_figure import MapFigure

MAX_CLASSES = 254
"""The most classes: OpenCV erodes uint8, and one value stands for ignored pixels."""

_DILATION_RATIO = 0.02
"""The width of a boundary as a share of the image's diagonal (Cheng et al. 2021, arXiv:2103.16562)."""


def boundary_iou(num_classes: int) -> MapFigure:
    """Describe the boundary IoU of Detectron2's evaluator; every class with a union has one.

    Raises:
        ConfigError: if there are too many classes.
    """
    if num_classes > MAX_CLASSES:
        raise ConfigError(
            f"model.boundary_iou counts at most {MAX_CLASSES} classes, as in Detectron2, but data.classes names "
            f"{num_classes}: leave it false"
        )
    per_class = partial(iou_per_class, absent_classes="mmseg")
    return MapFigure("BoundaryIoU", num_classes, boundary_confusion_matrix, per_class)


def boundary_confusion_matrix(prediction: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count the pixels of two boundary maps, as ``SemSegEvaluator`` does for its boundary IoU.

    A boundary map is the label map minus its erosion. The erosion is the minimum over a square window, with zeros
    around the image and K for ignored pixels. So a pixel of the boundary map holds its class id minus the lowest id
    nearby. This equals the paper's boundary IoU only for a class whose neighbours are of class 0; the rule is kept so
    that the figures equal Detectron2's.

    Args:
        prediction: (H, W) class ids.
        truth: (H, W) class ids or ``ignore_index``.
        num_classes: K, at most :data:`MAX_CLASSES`.
        ignore_index: true value of pixels that do not count.

    Returns:
        (K, K) int64 on the device of ``prediction``, rows by truth.
    """
    true = truth.to(torch.uint8).where(is_counted(truth, ignore_index), num_classes)
    predicted_map, true_map = (_boundary(labels.to(torch.uint8)) for labels in (prediction, true))
    counts = confusion_matrix(predicted_map, true_map, num_classes, ignore_index=num_classes)
    return counts.to(prediction.device)


def _boundary(labels: Tensor) -> Tensor:
    """The boundary map of (H, W) uint8 labels, on the CPU."""
    stored: NDArray[np.uint8] = labels.cpu().numpy()
    radius = max(1, round(_DILATION_RATIO * float(np.hypot(*stored.shape))))
    framed = cv2.copyMakeBorder(stored, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=radius)[1:-1, 1:-1]
    return torch.from_numpy(stored - eroded.astype(np.uint8))
