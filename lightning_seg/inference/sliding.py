"""Windows of an image, whose probabilities are blended in a buffer as high as one window."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from lightning_seg.inference.method import WHOLE, Ask, Inference, part_of, require, stored_size
from lightning_seg.inference.placing import Bands, first_needed, placed
from lightning_seg.inference.whole import affordable_rows, probability_bands
from lightning_seg.structures import Item

Blend = Literal["uniform", "hann"]


class SlidingWindow(Inference):
    """Windows that overlap, and blended probabilities: for images much larger than those of the training.

    Windows at the border are moved inward. Along an axis on which the image is smaller, a window is as long as the
    image; an image that fits into one window is evaluated as a whole. At edges inside the image, a quarter of the
    overlap is left out, where a window does not see what lies around: what a network says there would differ.

    Beside the windows of one batch, memory holds probabilities of a window's height and the image's width, whatever the
    image's height.

    Args:
        window: height and width in pixels of the image after ``data.eval_transforms``.
        overlap: share of a window that its neighbour covers too, in [0, 1).
        blend: how windows weigh where they overlap: ``hann``: less towards their edges; ``uniform``: all the same.
        batch_size: windows that the network gets at once.

    Raises:
        ConfigError: if a setting is out of range.
    """

    def __init__(
        self,
        window: Sequence[int] = (512, 512),
        overlap: float = 0.25,
        blend: Blend = "hann",
        batch_size: int = 4,
    ) -> None:
        pair = isinstance(window, list | tuple) and len(window) == 2 and all(_is_count(side) for side in window)
        require(pair, "window", window, "two whole numbers, height and width, of at least 1")
        require(_is_number(overlap) and 0 <= overlap < 1, "overlap", overlap, "a number in [0, 1)")
        require(blend in get_args(Blend), "blend", blend, " or ".join(get_args(Blend)))
        require(_is_count(batch_size), "batch_size", batch_size, "a whole number of at least 1")
        self.window = (window[0], window[1])
        self.overlap = overlap
        self.blend = blend
        self.batch_size = batch_size

    @property
    def by_windows(self) -> bool:
        return True

    def for_image(self, sample: Item) -> Inference:
        _, height, width = sample["image"].shape
        return WHOLE if height <= self.window[0] and width <= self.window[1] else self

    def bands(self, ask: Ask, sample: Item, first: int) -> Bands:
        _, height, width = sample["image"].shape
        sizes = (height, width), stored_size(sample), sample.get("placement")
        blended = self._blended(ask, sample, height, width, first_needed(first, *sizes))
        yield from placed(blended, *sizes, first)

    def _blended(self, ask: Ask, sample: Item, height: int, width: int, first: int) -> Bands:
        """Bands of the input from row ``first``, each as soon as no window that comes will add to it."""
        below, across = (
            strips(size, side, self.overlap, self.blend)
            for size, side in zip((height, width), self.window, strict=True)
        )
        buffer: _Rows | None = None
        for index, rows in enumerate(below):
            if rows.pixels.stop <= first:
                continue
            for start in range(0, len(across), self.batch_size):
                columns = across[start : start + self.batch_size]
                answer = ask([_part(sample, rows.pixels, each.pixels) for each in columns])
                for scores, size, each in zip(answer.scores, answer.input_sizes, columns, strict=True):
                    for top, band in probability_bands(scores, size, size):
                        if buffer is None:
                            buffer = _Rows(band.new_zeros(len(band), len(rows.weights), width))
                        weights = rows.weights[top : top + band.shape[1], None] * each.weights
                        buffer.add(rows.pixels.start + top, each.pixels, band.mul_(weights.to(band.device)))
            assert buffer is not None  # every image has a window
            end = below[index + 1].pixels.start if index + 1 < len(below) else height
            for top, band in buffer.take(rows.pixels.start, end):
                if top + band.shape[1] > first:
                    yield max(top, first), band[:, max(0, first - top) :]


class Strip(NamedTuple):
    """Where a window lies along one axis.

    Attributes:
        pixels: that it covers.
        weights: (pixels,) float32 of each, in the sum of all windows; 0 where it is left out.
    """

    pixels: slice
    weights: Tensor


def strips(size: int, side: int, overlap: float, blend: Blend) -> list[Strip]:
    """The windows along one axis, whose weights sum to 1 at each pixel.

    >>> [strip.pixels.start for strip in strips(100, 40, 0.25, "hann")]
    [0, 30, 60]
    >>> [strip.weights.tolist() for strip in strips(5, 4, 0.5, "uniform")]
    [[1.0, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 1.0]]
    """
    side = min(side, size)
    step = max(1, round(side * (1 - overlap)))
    trim = (side - step) // 4
    starts = [*range(0, size - side, step), size - side]
    weights, total = [], torch.zeros(size, dtype=torch.float64)
    for start in starts:
        kept = slice(trim if start > 0 else 0, side - trim if start + side < size else side)
        weight = torch.zeros(side, dtype=torch.float64)
        places = (torch.arange(kept.stop - kept.start, dtype=torch.float64) + 0.5) / (kept.stop - kept.start)
        weight[kept] = 1.0 if blend == "uniform" else (places * math.pi).sin().square()
        total[start : start + side] += weight
        weights.append(weight)
    return [
        Strip(slice(start, start + side), (weight / total[start : start + side]).float())
        for start, weight in zip(starts, weights, strict=True)
    ]


class _Rows:
    """Sums of the rows that the windows of one row of windows cover, where row r has its place at r modulo the height.

    Args:
        sums: (K, height, W), zeros.
    """

    def __init__(self, sums: Tensor) -> None:
        self.sums = sums

    def add(self, top: int, columns: slice, band: Tensor) -> None:
        """Add (K, rows, columns) to the rows from ``top``."""
        for row, place in self._places(top, top + band.shape[1]):
            self.sums[:, place, columns] += band[:, row - top : row - top + place.stop - place.start]

    def take(self, top: int, bottom: int) -> Bands:
        """Take rows out, in pieces, and leave zeros for those that come."""
        step = affordable_rows(self.sums)
        for start in range(top, bottom, step):
            for row, place in self._places(start, min(start + step, bottom)):
                yield row, self.sums[:, place].clone()
                self.sums[:, place] = 0

    def _places(self, top: int, bottom: int) -> Iterator[tuple[int, slice]]:
        """Image row and places in ``sums`` of each stretch of rows that lie side by side there."""
        height = self.sums.shape[1]
        while top < bottom:
            place = top % height
            count = min(bottom - top, height - place)
            yield top, slice(place, place + count)
            top += count


def _part(sample: Item, rows: slice, columns: slice) -> Item:
    part = {"image": part_of(sample["image"], rows, columns)}
    if "sem_seg" in sample:
        part["sem_seg"] = sample["sem_seg"][rows, columns]
    return cast(Item, part | {name: sample[name] for name in ("file_name",) if name in sample})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
