"""Figures of semantic segmentation as pure functions of one integer confusion matrix.

``matrix[t, p]`` counts pixels of true class t predicted as p, ``(K, K)`` int64. Figures are float64 in [0, 1];
NaN stands for a figure that does not exist, such as the IoU of a class that occurs nowhere.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

AbsentClasses = Literal["detectron2", "mmseg", "torchmetrics"]
"""Which classes an average counts: see :func:`iou_per_class`."""

ABSENT_CLASSES: tuple[str, ...] = get_args(AbsentClasses)


def confusion_matrix(prediction: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count pixels by true and predicted class.

    Args:
        prediction: class ids 0 to K − 1, any shape, any integer type.
        truth: class ids or ``ignore_index``, the same shape, any integer type.
        num_classes: K.
        ignore_index: pixels with this true value are left out.

    Returns:
        (K, K) int64 on the device of ``prediction``.

    Raises:
        ValueError: if the shapes differ, or a counted pixel has an id outside 0 to K − 1.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {tuple(prediction.shape)}, but truth {tuple(truth.shape)}")
    counted = truth != ignore_index
    true, predicted = truth[counted].long(), prediction[counted].long()
    for name, ids in (("truth", true), ("prediction", predicted)):
        if ids.numel() and not 0 <= (low := int(ids.min())) <= (high := int(ids.max())) < num_classes:
            raise ValueError(f"{name} holds ids {low} to {high}, but there are {num_classes} classes")
    return torch.bincount(true * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)


def iou_per_class(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """Intersection over union, (K,); NaN where the rule leaves a class out.

    Args:
        matrix: (K, K) counts.
        absent_classes: which classes have an IoU.
            ``detectron2``: those in the ground truth (``SemSegEvaluator.evaluate``).
            ``mmseg``: also those that are only predicted, with 0 (``IoUMetric``, before its ``nanmean``).
            ``torchmetrics``: the same classes (macro ``JaccardIndex``).
    """
    if absent_classes not in ABSENT_CLASSES:
        raise ValueError(f"absent_classes is {absent_classes!r}, but must be one of {', '.join(ABSENT_CLASSES)}")
    matrix = matrix.double()
    hits, true = matrix.diagonal(), matrix.sum(1)
    iou = hits / (true + matrix.sum(0) - hits)
    return torch.where(true > 0, iou, torch.nan) if absent_classes == "detectron2" else iou


def accuracy_per_class(matrix: Tensor) -> Tensor:
    """Share of a class's true pixels that are predicted as such (recall), (K,); NaN where it has none."""
    matrix = matrix.double()
    return matrix.diagonal() / matrix.sum(1)


def mean_iou(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """Mean over the classes that :func:`iou_per_class` gives an IoU, scalar; NaN without any counted pixel."""
    return iou_per_class(matrix, absent_classes).nanmean()


def mean_accuracy(matrix: Tensor) -> Tensor:
    """Mean over the classes in the ground truth of :func:`accuracy_per_class`, scalar."""
    return accuracy_per_class(matrix).nanmean()


def pixel_accuracy(matrix: Tensor) -> Tensor:
    """Share of counted pixels that are right, scalar."""
    matrix = matrix.double()
    return matrix.diagonal().sum() / matrix.sum()


def frequency_weighted_iou(matrix: Tensor) -> Tensor:
    """IoU of each class weighted by its share of the true pixels, scalar; NaN without any counted pixel."""
    share = matrix.double().sum(1) / matrix.sum()
    return torch.where(share > 0, share * iou_per_class(matrix), share).sum()
