"""Test-time augmentation: the image at several scales, and mirrored, and the mean of what the network says of each."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from lightning_seg.inference.kernel import interpolate_columns, interpolate_rows
from lightning_seg.inference.method import WHOLE, Ask, Inference, part_of, require, stored_size
from lightning_seg.inference.placing import Bands, first_needed, placed
from lightning_seg.inference.taps import Taps, bilinear_taps
from lightning_seg.structures import Item, Placement


class Augmented(Inference):
    """The mean of the probabilities of several views of an image: slower by their number, and often a little better.

    Args:
        scales: of the views, as factors of the image's height and width after ``data.eval_transforms``.
        flip: whether each view counts mirrored from left to right, too.
        of: how each view is evaluated; null: as a whole.

    Raises:
        ConfigError: if a setting is out of range.
    """

    def __init__(
        self, scales: Sequence[float] = (0.75, 1.0, 1.25), flip: bool = True, of: Inference | None = None
    ) -> None:
        positive = isinstance(scales, list | tuple) and all(
            isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < math.inf for scale in scales
        )
        require(positive and len(scales) > 0, "scales", scales, "one number above 0 or more")
        require(isinstance(flip, bool), "flip", flip, "true or false")
        require(of is None or isinstance(of, Inference), "of", of, "a class of lightning_seg.inference, or null")
        self.views = [
            (float(scale), mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,))
        ]
        self.of: Inference = WHOLE if of is None else of

    @property
    def by_windows(self) -> bool:
        return self.of.by_windows

    def for_image(self, sample: Item) -> Inference:
        return self.of.for_image(sample) if self.views == [(1.0, False)] else self

    def bands(self, ask: Ask, sample: Item, first: int) -> Bands:
        _, height, width = sample["image"].shape
        sizes = (height, width), stored_size(sample), sample.get("placement")
        top = first_needed(first, *sizes)
        streams = [self.of.probability_bands(ask, view_of(sample, *view), top) for view in self.views]
        yield from placed(_mean(streams, top, height), *sizes, first)


class View:
    """An image, resized bilinearly and perhaps mirrored, that is read by windows, as its source may be.

    Args:
        image: a tensor (C, H, W) of any type that images have, or what is read by windows. Integers are rounded.
        size: height and width.
        mirrored: whether the first column shows the image's last one.
    """

    def __init__(self, image: Tensor, size: tuple[int, int], mirrored: bool) -> None:
        self.image = image
        self.shape = (image.shape[0], *size)
        self.mirrored = mirrored

    def window(self, rows: slice, columns: slice) -> Tensor:
        if self.mirrored:
            columns = slice(self.shape[2] - columns.stop, self.shape[2] - columns.start)
        _, height, width = self.image.shape
        if (height, width) == self.shape[1:]:
            part = part_of(self.image, rows, columns)
        else:
            source_rows, row_taps = _source(height, self.shape[1], rows)
            source_columns, column_taps = _source(width, self.shape[2], columns)
            source = part_of(self.image, source_rows, source_columns)
            device = source.device
            wide = interpolate_columns(source.float(), *_on(device, column_taps))
            part = interpolate_rows(wide, *_on(device, row_taps))
            if not source.is_floating_point():
                part = part.round_().to(source.dtype)
        return _turned(part) if self.mirrored else part


def _turned(part: Tensor) -> Tensor:
    """The last column first; torch need not have that for uint16 on every device."""
    if part.dtype == torch.uint16:
        return part.view(torch.int16).flip(-1).view(torch.uint16)
    return part.flip(-1)


def _source(size: int, resized: int, part: slice) -> tuple[slice, Taps]:
    """Which pixels along an axis a part of the resized axis is made of, and how."""
    taps = bilinear_taps(size, 1, size, resized, torch.device("cpu"))
    indices, weights = [index[part] for index in taps.indices], [weight[part] for weight in taps.weights]
    start, stop = int(indices[0].min()), int(indices[-1].max()) + 1
    return slice(start, stop), Taps(tuple(index - start for index in indices), tuple(weights))


def _on(device: torch.device, taps: Taps) -> Taps:
    return Taps(*(tuple(part.to(device) for part in parts) for parts in taps))


def view_of(sample: Item, scale: float, mirrored: bool) -> Item:
    """A sample whose image is a view, and whose stored image is that of the given sample."""
    _, height, width = sample["image"].shape
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    view = {
        "image": View(sample["image"], size, mirrored),
        "height": height,
        "width": width,
        "placement": Placement(0, 0, *size, mirrored=mirrored),
    }
    if "sem_seg" in sample:
        rows, columns = (
            (torch.arange(new) * old // new).to(sample["sem_seg"].device)
            for new, old in zip(size, (height, width), strict=True)
        )
        target = sample["sem_seg"][rows][:, columns]
        view["sem_seg"] = target.flip(-1) if mirrored else target
    if "file_name" in sample:
        view["file_name"] = sample["file_name"]
    return cast(Item, view)


def _mean(streams: Sequence[Bands], top: int, height: int) -> Bands:
    """The mean of streams from row ``top`` to the last, whose bands (K, rows, W) may end at different rows."""
    held: list[Tensor | None] = [None] * len(streams)
    while top < height:
        given = [band if band is not None else next(stream)[1] for band, stream in zip(held, streams, strict=True)]
        rows = min(band.shape[1] for band in given)
        mean = given[0][:, :rows].clone()
        for band in given[1:]:
            mean += band[:, :rows]
        yield top, mean.div_(len(given))
        held = [band[:, rows:] if band.shape[1] > rows else None for band in given]
        top += rows
