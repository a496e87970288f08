"""Tells of what kind each wrong pixel of a label map is."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.metrics.functional import is_counted
from lightning_seg.metrics.regions import regions_of

KINDS = ("small_missed", "boundary", "invented", "confused")
"""Of the kinds that hold for a wrong pixel, the first counts; ``confused`` holds for each.

``small_missed``: its region in the truth has less than 0.3 % of the image's pixels, and less than half of it is right.
``boundary``: a pixel that touches one of another true value is at most 0.5 % of the image's diagonal away.
``invented``: nothing of its region in the prediction is right, that region touches no ignored pixel, and at least half
of its region in the truth is right.
"""

COUNTED = KINDS[:-1]
"""The kinds whose pixels are counted; what else is wrong is ``confused``."""

_SMALL = (3, 1000)
"""The share of the image's pixels that a small region stays below; COCO's small is 32² of about 640 × 480."""

_DIAGONALS = 200
"""How many boundary widths the diagonal has."""

_LARGEST_DISC = 24
"""Up to which radius a dilation is faster than a transform of distances."""


def count_kinds(prediction: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count the wrong pixels of one image by kind, true and predicted class.

    Regions are pixels of one value that touch by their sides; ignored pixels belong to none.

    Args:
        prediction: (H, W) class ids on the CPU.
        truth: (H, W) class ids or ``ignore_index`` on the CPU.
        num_classes: K.
        ignore_index: true value of pixels that do not count.

    Returns:
        (3, K, K) int64: ``[kind of COUNTED][true][predicted]``.
    """
    counts = np.zeros(len(COUNTED) * num_classes**2, np.int64)
    if truth.numel():
        counted: NDArray[np.bool_] = is_counted(truth, ignore_index).numpy()
        predicted, true = (_marked(labels.numpy(), counted, num_classes) for labels in (prediction, truth))
        wrong = np.flatnonzero(predicted != true)
        if len(wrong):
            kinds = _kinds(predicted, true, counted, wrong)
            kept = kinds < len(COUNTED)
            places = wrong[kept]
            bins = (kinds[kept].astype(np.int64) * num_classes + true.ravel()[places]) * num_classes
            bins += predicted.ravel()[places]
            counts = np.bincount(bins, minlength=len(counts))
    return torch.from_numpy(counts).view(len(COUNTED), num_classes, num_classes)


def _marked(labels: NDArray[Any], counted: NDArray[np.bool_], num_classes: int) -> NDArray[Any]:
    """The labels in the smallest type that holds K, which stands for ignored pixels."""
    kind = np.min_scalar_type(num_classes)
    return np.where(counted, labels.astype(kind, copy=False), kind.type(num_classes))


def _kinds(
    predicted: NDArray[Any], true: NDArray[Any], counted: NDArray[np.bool_], wrong: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The kind of each wrong pixel, by its place in :data:`KINDS`, (n,)."""
    in_truth, in_prediction = regions_of(true), regions_of(predicted)
    beneath, above = in_truth.at(wrong), in_prediction.at(wrong)
    right = in_truth.sizes - np.bincount(beneath, minlength=in_truth.count)
    mostly_wrong = 2 * right < in_truth.sizes
    small = in_truth.sizes * _SMALL[1] < true.size * _SMALL[0]
    all_wrong = np.bincount(above, minlength=in_prediction.count) == in_prediction.sizes
    if not counted.all():
        all_wrong[above[_beside_ignored(counted).ravel()[wrong]]] = False
    holds = [
        (mostly_wrong & small)[beneath],
        near_border(true).ravel()[wrong],
        all_wrong[above] & ~mostly_wrong[beneath],
    ]
    kinds = np.full(len(wrong), len(holds), np.uint8)
    for place in reversed(range(len(holds))):  # the first that holds is written last
        kinds[holds[place]] = place
    return kinds


def _beside_ignored(counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels are ignored, or touch one that is by a side."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate((~counted).view(np.uint8), cross).view(bool)


def near_border(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which pixels of (H, W) integers are at most 0.5 % of the diagonal from one that touches another value by a side.

    Distances are between the centres of pixels. They are compared as squares, which are integers.
    """
    border = np.zeros(labels.shape, bool)
    for marks, values in ((border, labels), (border.T, labels.T)):
        differ = values[1:] != values[:-1]
        marks[1:] |= differ
        marks[:-1] |= differ
    square = (labels.shape[0] ** 2 + labels.shape[1] ** 2) // _DIAGONALS**2
    radius = int(np.sqrt(square))
    if radius == 0 or not border.any():
        return border
    if radius <= _LARGEST_DISC:
        steps = np.arange(-radius, radius + 1) ** 2
        disc = (steps[:, None] + steps <= square).astype(np.uint8)
        return cv2.dilate(border.view(np.uint8), disc).view(bool)
    distance = cv2.distanceTransform((~border).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance < np.sqrt(square + 0.5)  # type: ignore[no-any-return]  # distances are rounded roots of integers
