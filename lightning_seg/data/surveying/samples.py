"""Reads some masks of a data set, to count classes and to choose samples that show every class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.surveying.class_pixels import ClassPixels
from lightning_seg.errors import UnreadableError

ClassCounts = NDArray[np.int64]


def draw_samples(length: int, count: int, seed: int) -> list[int]:
    """Draw at most ``count`` of the indices 0 to ``length`` − 1, in an order that depends on the seed alone."""
    order = np.random.default_rng(seed).permutation(length)
    return [int(index) for index in order[:count]]


def count_classes(dataset: SegmentationDataset, indices: Sequence[int]) -> ClassCounts:
    """Count the pixels of each class in the stored masks, (len(indices), K), without ignored pixels.

    If the data set skips samples that cannot be read, they count 0.
    """
    pixels = ClassPixels(dataset.samples, dataset.tables, rules=dataset.rules)
    counts = np.zeros((len(indices), dataset.info.num_classes), np.int64)
    for row, index in enumerate(indices):
        try:
            counts[row] = pixels[index]
        except UnreadableError:
            if not dataset.skip_unreadable:
                raise
    return counts


def cover_classes(counts: ClassCounts, limit: int) -> list[int]:
    """Choose rows that together show as many classes as possible, greedily; then the first of the other rows.

    >>> cover_classes(np.array([[5, 0, 0], [4, 1, 0], [0, 0, 2]]), 2)
    [1, 2]

    Args:
        counts: pixels of each class in each sample, (N, K).
        limit: how many rows.
    """
    present = counts > 0
    chosen: list[int] = []
    missing = np.ones(present.shape[1], bool)
    while len(chosen) < min(limit, len(present)):
        new = (present & missing).sum(1)
        new[chosen] = -1
        best = int(new.argmax())
        chosen.append(best)
        missing &= ~present[best]
    return chosen
