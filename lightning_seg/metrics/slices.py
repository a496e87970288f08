"""Figures of the images that have the same value in a column, exactly, from the counts of each image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lightning_seg.metrics.functional import averages
from lightning_seg.metrics.images import ImageFigures
from lightning_seg.metrics.report import without_nan

MISSING = "(missing)"
"""The name of the images that have no value."""


def slices_of(images: ImageFigures, columns: Mapping[str, Sequence[str]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Figures by column and value, in plain values for ``metrics.json``; a figure that does not exist is null.

    Each value has ``images`` and ``pixels``, and ``mIoU``, ``mAcc``, ``pAcc`` and ``fwIoU`` in [0, 1] of the sum of its
    images' counts, by the rule of the whole evaluation. Images without a value are :data:`MISSING`.

    Args:
        images: N.
        columns: N values each, by name.
    """
    return {column: _by_value(images, values) for column, values in columns.items()}


def _by_value(images: ImageFigures, values: Sequence[str]) -> dict[str, dict[str, Any]]:
    named = [value or MISSING for value in values]
    found = {}
    ids = {value: place for place, value in enumerate(sorted(set(named)))}
    of_image = torch.tensor([ids[value] for value in named], dtype=torch.int64)
    of_cell = of_image.repeat_interleave(images.lengths)
    order = of_cell.argsort(stable=True)
    parts = torch.split(order, of_cell.bincount(minlength=len(ids)).tolist())
    for (value, place), part in zip(ids.items(), parts, strict=True):
        counts = torch.zeros(images.num_classes**2, dtype=torch.int64)
        matrix = counts.index_add(0, images.cells[part], images.counts[part]).view(images.num_classes, -1)
        figures = averages(matrix, images.absent_classes)
        found[value] = {
            **without_nan({name: figure.item() for name, figure in figures.items()}),
            "images": int((of_image == place).sum()),
            "pixels": int(matrix.sum()),
        }
    return found
