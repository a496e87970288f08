"""Upsamples bilinearly by phases: ``F.interpolate``, but band by band, so that the result is never held as a whole.

If the stride s is a whole number, the pixels whose row and column have the same remainders modulo s are one phase. A
phase is as large as the input, and all its pixels blend their four neighbours with the same weights. So a phase is a
sum of shifted copies of the input. A band holds as many phases with the same neighbours as there is room for; a phase
that is too large is taken in bands of whole images, or of rows. If the stride of an axis is no whole number, the axis
is one phase, whose neighbours and weights are listed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_SHARE = 1 / 16
"""The largest share of the upsampled logits in each of three buffers: at stride 4, one phase of the batch. Threads wait
for each other after every operation. That is slow if other processes use the cores, so there should be few bands."""

_BAND_NUMBERS = {"cpu": 1 << 20, "other": 1 << 25}
"""How many numbers a buffer holds if that is more: 4 MB, which fit into a CPU's cache, or 128 MB on a GPU. There, a
smaller operation takes longer to start than to run (NVIDIA H200: 8000 small ones, for 256 phases, took 200 ms)."""

_GROUP_NUMBERS = {"cpu": 1 << 15, "other": 1 << 25}
"""How many numbers a band may hold if several phases share it. On a CPU, several phases with different weights are
slower together than one after the other, unless they are tiny."""


@dataclass(frozen=True)
class Region:
    """The pixels of a band.

    Attributes:
        images: which images of the batch.
        rows, columns: which positions of each phase.
        row_phases, column_phases: which phases.
        strides: how many phases the rows and the columns have.
    """

    images: slice
    rows: slice
    columns: slice
    row_phases: slice
    column_phases: slice
    strides: tuple[int, int]

    def of(self, pixels: Tensor) -> Tensor:
        """A view of these pixels of (N, H, W): (n, row phases, column phases, rows, columns)."""
        (images, height, width), (down, across) = pixels.shape, self.strides
        apart = pixels.view(images, height // down, down, width // across, across).permute(0, 2, 4, 1, 3)
        return apart[self.images, self.row_phases, self.column_phases, self.rows, self.columns]


def visit(logits: Tensor, size: torch.Size, use: Callable[[Tensor, Region], None], onto: Tensor | None) -> None:
    """Show all upsampled logits to ``use``, one band (n, K, row phases, column phases, rows, columns) after the other.

    Args:
        logits: (N, K, h, w).
        size: (N, H, W) of the upsampled pixels.
        use: takes a band and the region of its pixels. If ``onto`` is given, it overwrites the band with its gradient.
        onto: the gradient of the padded logits, (N, K, h + 2, w + 2), to which the bands' gradients are added; or None.
    """
    padded = F.pad(logits, (1, 1, 1, 1), mode="replicate")
    device = "cpu" if logits.device.type == "cpu" else "other"
    room = max(1, _BAND_NUMBERS[device] // logits.shape[1], int(math.prod(size) * _BAND_SHARE))  # pixels in a band
    rows, columns = _Axis.of(-2, logits.shape[2], size[1], logits), _Axis.of(-1, logits.shape[3], size[2], logits)
    together = _GROUP_NUMBERS[device] // (logits.shape[1] * len(padded) * rows.length * columns.length)
    across = list(columns.phases(together))
    most = max(phases.count for phases in across)
    down = list(rows.phases(together // most))
    most *= max(phases.count for phases in down)
    height = min(max(1, room // (most * columns.length)), rows.length)
    images = min(max(1, room // (most * columns.length * rows.length)), len(padded))
    numbers = images * logits.shape[1] * most * height
    mixed, folded = (logits.new_empty(numbers * padded.shape[3]) for _ in range(2))
    band = logits.new_empty(numbers * columns.length)
    for row in down:
        for image in range(0, len(padded), images):
            part = padded[image : image + images]
            for begin in range(0, rows.length, height):
                lines = slice(begin, min(begin + height, rows.length))
                shape = (*part.shape[:2], row.count, lines.stop - begin, padded.shape[3])
                source = row.blend(part, lines, _view(mixed, shape))
                slopes = None if onto is None else _view(folded, shape).zero_()
                for column in across:
                    positions = slice(0, columns.length)
                    shape = (*source.shape[:3], column.count, source.shape[3], columns.length)
                    pixels = column.blend(source, positions, _view(band, shape))
                    use(
                        pixels,
                        Region(
                            slice(image, image + len(part)), lines, positions, row.among, column.among,
                            (rows.stride, columns.stride),
                        ),
                    )  # fmt: skip
                    if slopes is not None:
                        column.fold(pixels, positions, slopes)
                if onto is not None and slopes is not None:
                    row.fold(slopes, lines, onto[image : image + images])


def _view(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    return buffer[: math.prod(shape)].view(shape)


def padded_zeros(logits: Tensor) -> Tensor:
    """Zeros for the gradient of the padded logits."""
    return logits.new_zeros(*logits.shape[:2], logits.shape[2] + 2, logits.shape[3] + 2)


def without_padding(gradient: Tensor) -> Tensor:
    """Turn the gradient of the padded logits into that of the logits, which the padding repeats."""
    for axis in (2, 3):
        for edge, inner in ((0, 1), (-1, -2)):
            gradient.select(axis, inner).add_(gradient.select(axis, edge))
    return gradient[:, :, 1:-1, 1:-1]


@dataclass(frozen=True)
class _Phases:
    """Neighbouring phases of an axis, whose positions blend the same two neighbours of the padded input.

    Attributes:
        axis: -2 for rows, -1 for columns.
        start: the first of these phases.
        count: their number.
        first: the index of the first position's first neighbour, if those of the next positions follow one by one; else
            a tensor (length,) with the index for each position.
        weight: of the second neighbour, in [0, 1]: a number for one phase, (count, 1, 1) for several. If ``first`` is a
            tensor, one for each position, broadcast along the axis.
    """

    axis: int
    start: int
    count: int
    first: int | Tensor
    weight: float | Tensor

    @property
    def among(self) -> slice:
        """Which phases of the axis these are."""
        return slice(self.start, self.start + self.count)

    def blend(self, padded: Tensor, positions: slice, out: Tensor) -> Tensor:
        """Blend these positions of (…, h, w) into ``out`` (…, count, rows, columns)."""
        near, far = (self._neighbours(padded, positions, offset).unsqueeze(-3) for offset in (0, 1))
        if isinstance(self.weight, Tensor):
            return torch.lerp(near, far, self._weights(positions), out=out)
        if self.weight == 0:
            return out.copy_(near)  # a value that is not finite affects its own pixel alone
        return torch.lerp(near, far, self.weight, out=out)

    def fold(self, gradient: Tensor, positions: slice, onto: Tensor) -> None:
        """Add the gradient of these positions to that of the padded input; ``gradient`` is overwritten."""
        if isinstance(self.first, Tensor):
            gradient, index, weight = gradient.squeeze(-3), self.first[positions], self._weights(positions)
            onto.index_add_(self.axis, index, gradient * (1 - weight))
            onto.index_add_(self.axis, index + 1, gradient * weight)
            return
        near, far = (self._neighbours(onto, positions, offset) for offset in (0, 1))
        if isinstance(self.weight, Tensor):
            both = gradient.sum(-3)
            second = gradient.mul_(self.weight).sum(-3)
            near.add_(both.sub_(second))
            far.add_(second)
            return
        gradient = gradient.squeeze(-3)
        near.add_(gradient, alpha=1 - self.weight)
        if self.weight:
            far.add_(gradient, alpha=self.weight)

    def _neighbours(self, padded: Tensor, positions: slice, offset: int) -> Tensor:
        if isinstance(self.first, Tensor):
            return padded.index_select(self.axis, self.first[positions] + offset)
        return padded.narrow(self.axis, self.first + positions.start + offset, positions.stop - positions.start)

    def _weights(self, positions: slice) -> Tensor:
        assert isinstance(self.weight, Tensor)
        return self.weight if isinstance(self.first, int) else self.weight[positions]


@dataclass(frozen=True)
class _Axis:
    """One axis of the output, whose input is padded by one at both ends.

    Attributes:
        axis: -2 for rows, -1 for columns.
        stride: of the upsampling, which is the number of phases; 1 if it is no whole number.
        length: how many positions each phase has.
        first, weight: for each position, as in ``_Phases``, if the stride is no whole number; else None.
        like: a tensor of the type and on the device of the logits.
    """

    axis: int
    stride: int
    length: int
    first: Tensor | None
    weight: Tensor | None
    like: Tensor

    @staticmethod
    def of(axis: int, size: int, upsampled: int, like: Tensor) -> "_Axis":
        if upsampled % size == 0:
            return _Axis(axis, upsampled // size, size, None, None, like)
        # The precision is that of F.interpolate, so that positions are rounded in the same way.
        positions = torch.arange(upsampled, dtype=like.dtype, device=like.device)
        source = ((positions + 0.5) * (size / upsampled) - 0.5).clamp(0, size - 1)
        first = source.long()
        weight = (source - first).view(-1, *(1,) * (-1 - axis))
        return _Axis(axis, 1, upsampled, first + 1, weight, like)

    def phases(self, most: int) -> Iterator[_Phases]:
        """All phases in groups of at most ``most``; a phase that blends nothing is alone."""
        if self.first is not None and self.weight is not None:
            yield _Phases(self.axis, 0, 1, self.first, self.weight)
            return
        # From the input's pixel around it:
        offsets = [(phase + 0.5) / self.stride - 0.5 for phase in range(self.stride)]
        begin = 0
        while begin < self.stride:
            first = int(offsets[begin] >= 0)
            end = begin + 1
            while end < min(self.stride, begin + most) and offsets[begin] * offsets[end] > 0:
                end += 1
            weights = [offset % 1 for offset in offsets[begin:end]]
            weight = _sent(weights, self.like).view(-1, 1, 1) if len(weights) > 1 else weights[0]
            yield _Phases(self.axis, begin, len(weights), first, weight)
            begin = end


def _sent(values: list[float], like: Tensor) -> Tensor:
    """Values as a tensor of the type and on the device of another, without waiting for the device."""
    pinned = like.device.type == "cuda"
    return torch.tensor(values, dtype=like.dtype, pin_memory=pinned).to(like.device, non_blocking=pinned)
