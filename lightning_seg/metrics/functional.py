"""Computes the figures of semantic segmentation: pure functions of one integer confusion matrix.

``matrix[t, p]`` counts pixels of true class t predicted as p, ``(K, K)`` int64. Figures are float64 in [0, 1];
NaN stands for a figure that does not exist, such as the IoU of a class that occurs nowhere.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

AbsentClasses = Literal["detectron2", "mmseg", "torchmetrics"]
"""Which classes an average counts: see :func:`iou_per_class`."""

ABSENT_CLASSES: tuple[str, ...] = get_args(AbsentClasses)

_PART = (2**20, 2**26)
"""How many pixels are counted at once: on a CPU as many as its cache holds, on a GPU as many as keep it busy."""

_COPIES = 64
"""How many histograms a GPU counts into."""


def confusion_matrix(prediction: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count pixels by true and predicted class.

    It allocates nothing larger than a part of the image or K², and works under deterministic algorithms.

    Args:
        prediction: class ids 0 to K − 1, any shape, uint8 or a signed integer type.
        truth: class ids or ``ignore_index``, the same shape, uint8 or a signed integer type.
        num_classes: K.
        ignore_index: pixels with this true value are left out.

    Returns:
        (K, K) int64 on the device of ``prediction``.

    Raises:
        ValueError: if the shapes differ, or a counted pixel has an id outside 0 to K − 1.
    """
    counts, foreign = count_pairs(prediction, truth, num_classes, ignore_index)
    if foreign:
        counted = is_counted(truth, ignore_index)
        ranges = [
            f"{name} holds ids {ids[counted].min()} to {ids[counted].max()}"
            for name, ids in (("prediction", prediction), ("truth", truth))
        ]
        raise ValueError(f"{' and '.join(ranges)}, but there are {num_classes} classes")
    return counts


def count_pairs(prediction: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """:func:`confusion_matrix` without waiting for a GPU: foreign ids are counted and raise no error.

    Returns:
        The (K, K) int64 counts, and how many counted pixels have a foreign id, an int64 scalar.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {tuple(prediction.shape)}, but truth {tuple(truth.shape)}")
    ignored, foreign = num_classes**2, num_classes**2 + 1  # bins after those of the pairs
    counts = torch.zeros(num_classes**2 + 2, dtype=torch.int64, device=prediction.device)
    part = max(_PART[prediction.device.type == "cuda"], num_classes**2)
    for start in range(0, prediction.numel(), part):
        predicted, true = (labels.flatten()[start : start + part] for labels in (prediction, truth))
        bins = true.to(torch.int32, copy=True).mul_(num_classes).add_(predicted)
        bins.masked_fill_(_is_foreign(true, num_classes) | _is_foreign(predicted, num_classes), foreign)
        bins.masked_fill_(~is_counted(true, ignore_index), ignored)
        counts += histogram(bins, len(counts))
    return counts[:ignored].view(num_classes, num_classes), counts[foreign]


def histogram(bins: Tensor, length: int, amounts: Tensor | None = None) -> Tensor:
    """``torch.bincount`` without waiting for a GPU: how often 0 … ``length`` − 1 occur in (n,) integers, int64.

    Args:
        bins: (n,) integers.
        length: of the result.
        amounts: (n,) integers, whose sums are given in place of how often a bin occurs.
    """
    if bins.device.type != "cpu":  # there, torch.bincount first reads the least and the largest value
        return _histogram_by_copies(bins, length, amounts)
    if amounts is None:
        return torch.bincount(bins, minlength=length)
    return torch.zeros(length, dtype=torch.int64).scatter_add_(0, bins.long(), amounts.long())


def _histogram_by_copies(bins: Tensor, length: int, amounts: Tensor | None = None) -> Tensor:
    """:func:`histogram` on a GPU: neighbours, which are mostly equal, count in different copies at the same time."""
    slots = length + 1  # the last one is for the padding
    filled = F.pad(bins.long(), (0, -len(bins) % _COPIES), value=length).view(-1, _COPIES)
    places = (filled + torch.arange(_COPIES, device=bins.device) * slots).flatten()
    if amounts is None:
        added = torch.ones((), dtype=torch.int64, device=bins.device).expand(len(places))
    else:
        added = F.pad(amounts.long(), (0, len(places) - len(bins)))
    counts = torch.zeros(_COPIES * slots, dtype=torch.int64, device=bins.device).scatter_add_(0, places, added)
    return counts.view(_COPIES, slots).sum(0)[:length]


def is_counted(truth: Tensor, ignore_index: int) -> Tensor:
    """``truth != ignore_index``, also if the type of ``truth`` cannot hold it: there torch would wrap it around."""
    limits = torch.iinfo(truth.dtype)
    held = limits.min <= ignore_index <= limits.max
    return truth != ignore_index if held else torch.ones_like(truth, dtype=torch.bool)


def _is_foreign(ids: Tensor, num_classes: int) -> Tensor:
    """Which ids are no class; works for all integer types."""
    limits = torch.iinfo(ids.dtype)
    above = ids >= num_classes if num_classes <= limits.max else torch.zeros_like(ids, dtype=torch.bool)
    return above | (ids < 0) if limits.min < 0 else above


def iou_per_class(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """Intersection over union, (K,); NaN where the rule leaves a class out.

    Args:
        matrix: (K, K) counts.
        absent_classes: which classes have an IoU.
            ``detectron2``: those in the ground truth (``SemSegEvaluator.evaluate``).
            ``mmseg``: also those that are only predicted, with 0 (``IoUMetric``, before its ``nanmean``).
            ``torchmetrics``: the same classes (macro ``JaccardIndex``).
    """
    return iou_of_totals(*_totals(matrix), absent_classes)


def iou_of_totals(hits: Tensor, true: Tensor, predicted: Tensor, absent_classes: AbsentClasses) -> Tensor:
    """:func:`iou_per_class` from the pixels of each class that are right, true and predicted: float64, any shape."""
    return _ratio(hits, true + predicted - hits, _included(true, predicted, absent_classes))


def dice_per_class(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """Dice coefficient or F1, (K,): the harmonic mean of precision and recall, for the classes that have an IoU."""
    hits, true, predicted = _totals(matrix)
    return _ratio(2 * hits, true + predicted, _included(true, predicted, absent_classes))


def precision_per_class(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """Precision, (K,): which share of the pixels predicted as a class is right, for the classes that have an IoU.

    A class that is never predicted has 0, as in torchmetrics; by the rule of ``mmseg`` it is left out.
    """
    hits, true, predicted = _totals(matrix)
    included = predicted > 0 if absent_classes == "mmseg" else _included(true, predicted, absent_classes)
    return _ratio(hits, predicted, included)


def recall_per_class(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """Recall, (K,): which share of a class's true pixels is predicted as it, for the classes that have an IoU.

    A class that is only predicted has 0 by the rule of ``torchmetrics``; by that of ``mmseg`` it is left out.
    """
    hits, true, predicted = _totals(matrix)
    included = true > 0 if absent_classes == "mmseg" else _included(true, predicted, absent_classes)
    return _ratio(hits, true, included)


def _totals(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of each class that are right, true and predicted, (K,) float64 each."""
    matrix = matrix.double()
    return matrix.diagonal(), matrix.sum(1), matrix.sum(0)


def _included(true: Tensor, predicted: Tensor, absent_classes: AbsentClasses) -> Tensor:
    if absent_classes not in ABSENT_CLASSES:
        raise ValueError(f"absent_classes is {absent_classes!r}, but must be one of {', '.join(ABSENT_CLASSES)}")
    return true > 0 if absent_classes == "detectron2" else true + predicted > 0


def _ratio(part: Tensor, whole: Tensor, included: Tensor) -> Tensor:
    """``part / whole``, 0 where both are 0, and NaN where not included."""
    return torch.where(included, part / whole.clamp(min=1), torch.nan)


def mean_iou(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> Tensor:
    """The mean of :func:`iou_per_class` over the classes that have an IoU, scalar; NaN without any counted pixel."""
    return iou_per_class(matrix, absent_classes).nanmean()


def mean_accuracy(matrix: Tensor) -> Tensor:
    """The mean of :func:`recall_per_class` over the classes in the ground truth, scalar."""
    return recall_per_class(matrix).nanmean()


def pixel_accuracy(matrix: Tensor) -> Tensor:
    """The share of the counted pixels that are right, scalar."""
    matrix = matrix.double()
    return matrix.diagonal().sum() / matrix.sum()


def frequency_weighted_iou(matrix: Tensor) -> Tensor:
    """IoU of each class weighted by its share of the true pixels, scalar; NaN without any counted pixel."""
    share = matrix.double().sum(1) / matrix.sum()
    return torch.where(share > 0, share * iou_per_class(matrix), share).sum()


def averages(matrix: Tensor, absent_classes: AbsentClasses = "detectron2") -> dict[str, Tensor]:
    """``mIoU``, ``mAcc``, ``pAcc`` and ``fwIoU``, a scalar each."""
    return {
        "mIoU": mean_iou(matrix, absent_classes),
        "mAcc": mean_accuracy(matrix),
        "pAcc": pixel_accuracy(matrix),
        "fwIoU": frequency_weighted_iou(matrix),
    }


def worst_mean(values: Tensor, share: float = 0.1) -> Tensor:
    """The mean of the lowest ``share`` of values, and of at least one, scalar; NaN without any value.

    Wang et al. 2023, arXiv:2310.19252, apply it to the IoUs of images. The values are summed in ascending order, so
    that the sum does not depend on the order of the processes.

    Args:
        values: (N,); NaN are left out.
        share: in (0, 1]; 1 is the mean of all.
    """
    ranked = values[~values.isnan()].double().sort().values
    return ranked[: math.ceil(len(ranked) * share)].mean()
