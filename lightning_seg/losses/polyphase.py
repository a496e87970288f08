"""Bilinear upsampling by phases, which shows the upsampled pixels band by band and never holds them all.

Upsampled by a whole stride s, the pixels with the same remainders of row and column by s are one phase. A phase is as
large as what it is made from, and its pixels blend the same four neighbours with the same weights, so that it is made
of shifted copies. Larger phases are taken in bands of whole images, else of rows. An axis that is not enlarged by a
whole stride is one phase, whose neighbours and weights are listed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_SHARE = 1 / 16
"""Of the upsampled logits, at most, in each of three buffers: at stride 4, one phase of the batch. Threads wait for
each other after every operation, which costs most where other processes use the cores too: better few than small."""

_BAND_NUMBERS = {"cpu": 1 << 20, "other": 1 << 24}
"""In a buffer where that is more: 4 MB in a CPU's cache, but 64 MB on a GPU, which waits for many small operations."""

Region = tuple[slice, slice, slice]
"""Images, rows and columns of the pixels in a band."""


def visit(logits: Tensor, size: torch.Size, use: Callable[[Tensor, Region], None], onto: Tensor | None) -> None:
    """Show all upsampled logits to ``use``, one band (n, K, rows, columns) after the other.

    Args:
        logits: (N, K, h, w).
        size: (N, H, W) of the upsampled pixels.
        use: is given a band and the region of its pixels. Where ``onto`` is given, it leaves the band's gradient in it.
        onto: gradient of the padded logits, (N, K, h + 2, w + 2), which the bands' gradients are added to; or None.
    """
    padded = F.pad(logits, (1, 1, 1, 1), mode="replicate")
    rows, columns = _phases(logits.shape[2], size[1], logits), _phases(logits.shape[3], size[2], logits)
    least = _BAND_NUMBERS["cpu" if logits.device.type == "cpu" else "other"] // logits.shape[1]
    numbers = max(least, int(math.prod(size) * _BAND_SHARE))  # of pixels
    height = min(max(1, numbers // columns[0].length), rows[0].length)
    images = min(max(1, numbers // (columns[0].length * rows[0].length)), len(padded))
    width = max(padded.shape[3], columns[0].length)
    mixed, band, folded = (logits.new_empty(images * logits.shape[1] * height * width) for _ in range(3))
    for row in rows:
        for image in range(0, len(padded), images):
            part = padded[image : image + images]
            for begin in range(0, row.length, height):
                end = min(begin + height, row.length)
                lines = (*part.shape[:2], end - begin)
                source = row.blend(part, 2, begin, end, _view(mixed, (*lines, padded.shape[3])))
                slopes = None if onto is None else _view(folded, source.shape).zero_()
                for column in columns:
                    pixels = column.blend(source, 3, 0, column.length, _view(band, (*lines, column.length)))
                    across = column.positions(0, column.length)
                    use(pixels, (slice(image, image + len(part)), row.positions(begin, end), across))
                    if slopes is not None:
                        column.fold(pixels, 3, 0, column.length, slopes)
                if onto is not None and slopes is not None:
                    row.fold(slopes, 2, begin, end, onto[image : image + images])


def _view(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    return buffer[: math.prod(shape)].view(shape)


def padded_zeros(logits: Tensor) -> Tensor:
    """Room for the gradient of the logits after padding."""
    return logits.new_zeros(*logits.shape[:2], logits.shape[2] + 2, logits.shape[3] + 2)


def without_padding(gradient: Tensor) -> Tensor:
    """Of padded logits to that of the logits, which the padding repeats."""
    for axis in (2, 3):
        for edge, inner in ((0, 1), (-1, -2)):
            gradient.select(axis, inner).add_(gradient.select(axis, edge))
    return gradient[:, :, 1:-1, 1:-1]


@dataclass(frozen=True)
class _Phase:
    """Every ``step``-th position of the output along an axis, each a blend of two neighbours in the padded input.

    Attributes:
        start: first position.
        step: distance of positions.
        length: their number.
        first: index of the first position's first neighbour, where those of the next positions follow one by one; else
            of each position's, (length,).
        weight: of the second neighbour, in [0, 1]; where ``first`` is a tensor, of each position's, (length,).
    """

    start: int
    step: int
    length: int
    first: int | Tensor
    weight: float | Tensor

    def positions(self, begin: int, end: int) -> slice:
        return slice(self.start + begin * self.step, self.start + (end - 1) * self.step + 1, self.step)

    def blend(self, padded: Tensor, axis: int, begin: int, end: int, out: Tensor) -> Tensor:
        """The positions from ``begin`` to ``end`` of this phase, written to ``out``."""
        near, far = (self._neighbours(padded, axis, begin, end, offset) for offset in (0, 1))
        if isinstance(self.weight, Tensor):
            return torch.lerp(near, far, self._column(axis, begin, end), out=out)
        if self.weight == 0:
            return out.copy_(near)  # what is not finite stays with its own pixel
        return torch.lerp(near, far, self.weight, out=out)

    def fold(self, gradient: Tensor, axis: int, begin: int, end: int, onto: Tensor) -> None:
        """Add the gradient of those positions to that of the padded input."""
        if isinstance(self.first, Tensor):
            index, weight = self.first[begin:end], self._column(axis, begin, end)
            onto.index_add_(axis, index, gradient * (1 - weight))
            onto.index_add_(axis, index + 1, gradient * weight)
            return
        assert not isinstance(self.weight, Tensor)
        self._neighbours(onto, axis, begin, end, 0).add_(gradient, alpha=1 - self.weight)
        if self.weight:
            self._neighbours(onto, axis, begin, end, 1).add_(gradient, alpha=self.weight)

    def _neighbours(self, padded: Tensor, axis: int, begin: int, end: int, offset: int) -> Tensor:
        if isinstance(self.first, Tensor):
            return padded.index_select(axis, self.first[begin:end] + offset)
        return padded.narrow(axis, self.first + begin + offset, end - begin)

    def _column(self, axis: int, begin: int, end: int) -> Tensor:
        """Weights that broadcast along the axis."""
        assert isinstance(self.weight, Tensor)
        return self.weight[begin:end].view(-1, *(1,) * (3 - axis))


def _phases(size: int, upsampled: int, like: Tensor) -> list[_Phase]:
    """The phases of one axis, whose input is padded by one at both ends."""
    if upsampled % size == 0:
        stride = upsampled // size
        offsets = [(phase + 0.5) / stride - 0.5 for phase in range(stride)]  # from the pixel of the input around it
        return [_Phase(phase, stride, size, int(offset >= 0), offset % 1) for phase, offset in enumerate(offsets)]
    # In the precision of F.interpolate, so that the positions are rounded as they are there.
    positions = torch.arange(upsampled, dtype=like.dtype, device=like.device)
    source = ((positions + 0.5) * (size / upsampled) - 0.5).clamp(0, size - 1)
    first = source.long()
    return [_Phase(0, 1, upsampled, first + 1, source - first)]
