"""Reports of matrices that are given."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_seg.metrics import AbsentClasses, ImageFigures, Report
from lightning_seg.metrics.images import encode_image


def images_of(
    matrices: Sequence[Tensor], losses: Sequence[float] | None = None, absent_classes: AbsentClasses = "detectron2"
) -> ImageFigures:
    """Images with these (K, K) counts, in this order."""
    values = [0.0] * len(matrices) if losses is None else losses
    codes = [encode_image(place, loss, one) for place, (loss, one) in enumerate(zip(values, matrices, strict=True))]
    return ImageFigures.decode(torch.cat(codes), len(matrices[0]), absent_classes)


def report_of(split: str, names: Sequence[str], *matrices: Tensor, **map_figures: Tensor) -> Report:
    """The report on images with these (K, K) counts; ``map_figures`` are (K,)."""
    return Report(split, names, torch.stack(matrices).sum(0), images_of(matrices), "detectron2", map_figures)
