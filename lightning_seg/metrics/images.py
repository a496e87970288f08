"""Computes the figures of each image of an evaluation, in the order of the data."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.metrics import functional
from lightning_seg.metrics.functional import AbsentClasses

_HEADER = 3
"""How many integers stand before the pairs of an image: its position, the bits of its loss, the number of pairs."""


def encode_image(position: int, loss: float, matrix: Tensor) -> Tensor:
    """Write an image as integers: processes can exchange them, and a conversion to half precision leaves them alone.

    Args:
        position: of the image in its data set.
        loss: of the image; NaN if it has none.
        matrix: (K, K) int64 counts on the CPU.

    Returns:
        (3 + 2n,) int64: the position; the bits of the loss as float64; n, the number of cells of the matrix that are
        not 0; and for each of these cells its place among all K², and its count.
    """
    counts = matrix.flatten()
    cells = counts.nonzero().flatten()
    bits = torch.tensor([loss], dtype=torch.float64).view(torch.int64)
    pairs = torch.stack([cells, counts[cells]], dim=1).flatten()
    return torch.cat([torch.tensor([position]), bits, torch.tensor([len(cells)]), pairs])


@dataclass(frozen=True)
class ImageFigures:
    """The counts of each of N images, the same on any number of processes.

    Attributes:
        num_classes: K.
        absent_classes: the averaging rule within an image.
        positions: (N,) int64, ascending: the positions of the images in their data set.
        losses: (N,) float64; NaN for an image without a loss.
        lengths: (N,) int64, how many cells of each image's matrix are not 0.
        cells: (M,) int64, the places of these cells among the K², image after image.
        counts: (M,) int64, the pixels in these cells.
    """

    num_classes: int
    absent_classes: AbsentClasses
    positions: Tensor
    losses: Tensor
    lengths: Tensor
    cells: Tensor
    counts: Tensor

    @classmethod
    def decode(cls, codes: Tensor, num_classes: int, absent_classes: AbsentClasses) -> "ImageFigures":
        """Read images that :func:`encode_image` wrote; their codes follow one another in any order."""
        stored = codes.cpu()
        starts = []
        start = 0
        while start < len(stored):
            starts.append(start)
            start += _HEADER + 2 * int(stored[start + 2])
        headers = torch.stack([stored[torch.tensor(starts, dtype=torch.int64) + place] for place in range(_HEADER)])
        order = headers[0].argsort(stable=True)
        positions, bits, lengths = headers[:, order]
        firsts = [starts[place] + _HEADER for place in order.tolist()]
        pairs = [stored[first : first + 2 * length] for first, length in zip(firsts, lengths.tolist(), strict=True)]
        cells, counts = torch.cat([*pairs, stored[:0]]).view(-1, 2).unbind(1)
        return cls(num_classes, absent_classes, positions, bits.view(torch.float64), lengths, cells, counts)

    def __len__(self) -> int:
        return len(self.positions)

    def matrix(self, index: int) -> Tensor:
        """The (K, K) int64 counts of one image, rows by truth."""
        return torch.from_numpy(self.matrices(index, index + 1)[0].astype(np.int64))

    def matrices(self, first: int = 0, last: int | None = None) -> NDArray[np.unsignedinteger]:
        """The counts of the images from ``first`` to before ``last``, (n, K, K) in :attr:`count_type`."""
        first, last, _ = slice(first, last).indices(len(self))
        held = slice(self._ends[first], self._ends[last])
        dense = np.zeros((last - first, self.num_classes**2), self.count_type)
        dense[self._image_of_cell[held].numpy() - first, self.cells[held].numpy()] = self.counts[held].numpy()
        return dense.reshape(-1, self.num_classes, self.num_classes)

    @cached_property
    def count_type(self) -> np.dtype[np.unsignedinteger]:
        """The smallest unsigned integer type that holds every count."""
        return np.min_scalar_type(int(self.counts.max()) if len(self.counts) else 0)

    @cached_property
    def mean_loss(self) -> Tensor:
        """The mean of the images' losses, a float64 scalar; zero without any image."""
        return self.losses.sum() / max(1, len(self))

    @cached_property
    def iou(self) -> Tensor:
        """The IoU of each class in each image, (N, K) float64; NaN for a class that the rule leaves out."""
        hits, true, predicted = (pixels.double() for pixels in self._totals)
        return functional.iou_of_totals(hits, true, predicted, self.absent_classes)

    @cached_property
    def mean_iou(self) -> Tensor:
        """The mIoU of each image, (N,) float64; NaN without a counted pixel."""
        each = [values.nanmean() for values in self.iou]  # one by one: a sum of rows may round differently
        return torch.stack(each) if each else torch.zeros(0, dtype=torch.float64)

    @cached_property
    def pixel_accuracy(self) -> Tensor:
        """The share of the counted pixels that are right, (N,) float64; NaN without a counted pixel."""
        return self._totals[0].sum(1).double() / self.pixels

    @cached_property
    def pixels(self) -> Tensor:
        """How many pixels of each image count, (N,) int64."""
        return self._totals[1].sum(1)

    @cached_property
    def _ends(self) -> list[int]:
        """Where the cells of each image end; the first entry is 0."""
        return list(itertools.accumulate(self.lengths.tolist(), initial=0))

    @cached_property
    def _image_of_cell(self) -> Tensor:
        return torch.arange(len(self)).repeat_interleave(self.lengths)

    @cached_property
    def _totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of each class in each image that are right, true and predicted, (N, K) int64 each."""
        true, predicted = self.cells // self.num_classes, self.cells % self.num_classes
        row = self._image_of_cell * self.num_classes
        none = torch.zeros(len(self) * self.num_classes, dtype=torch.int64)
        right = self.counts.where(true == predicted, 0)
        sums = [(true, right), (true, self.counts), (predicted, self.counts)]
        hits, of_true, of_predicted = (
            none.index_add(0, row + place, pixels).view(len(self), self.num_classes) for place, pixels in sums
        )
        return hits, of_true, of_predicted
