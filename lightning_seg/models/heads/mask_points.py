"""Reads label maps and masks at points between pixels; a mask of the truth is never made."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Neighbours(NamedTuple):
    """The four pixels of a label map that surround each point, and their shares in it by bilinear interpolation.

    Attributes:
        ids: of each neighbour, (R, P) class ids.
        shares: of each neighbour, (R, P) float32; 0 outside the label map.
    """

    ids: tuple[Tensor, ...]
    shares: tuple[Tensor, ...]

    @staticmethod
    def of(targets: Tensor, images: Tensor, points: Tensor) -> "Neighbours":
        """Of points (R, P, 2), as x and y in [0, 1], on the ``images`` (R,) among ``targets`` (N, H, W)."""
        height, width = targets.shape[-2:]
        exact = torch.float32 if points.device.type == "mps" else torch.float64
        x, y = (  # rounded once, as in torch's grid_sample on most CPUs: then labels are equal to the bit
            ((2 * points[..., axis] - 1 + 1).to(exact) * (side / 2) - 0.5).float()
            for axis, side in enumerate((width, height))
        )
        left, top = x.floor(), y.floor()
        ids, shares = [], []
        for row, of_row in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, of_column in ((left, 1 - (x - left)), (left + 1, x - left)):
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                shares.append(of_row * of_column * inside)
                place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
                ids.append(targets.flatten()[images[:, None] * (height * width) + place])
        return Neighbours(tuple(ids), tuple(shares))

    def share_of(self, classes: Tensor | int) -> Tensor:
        """The share of pixels of a class in each point, (R, P), or (M, P) for classes (M, 1) where R is 1."""
        (first, *ids), (share, *shares) = self
        total = (first == classes) * share
        for one, other in zip(ids, shares, strict=True):
            total = total + (one == classes) * other
        return total

    def counted(self, ignore_value: int) -> Tensor:
        """Which points (R, P) count: those that ignored pixels make up less than half of."""
        return 2 * self.share_of(ignore_value) < self.inside()

    def inside(self) -> Tensor:
        """The share (R, P) of the label map in each point; less than 1 at its border, as published."""
        return torch.stack(self.shares).sum(0)

    def labels(self, classes: Tensor, ignore_value: int) -> tuple[Tensor, Tensor]:
        """The share of a class in each point, of the pixels that count, and 1 or 0: whether the point counts.

        Args:
            classes: (R, 1); or (M, 1), where R is 1, for M classes at the same points.
            ignore_value: class id of pixels that do not count.

        Returns:
            labels, (R, P) or (M, P), in [0, 1], 0 where the point does not count; and whether it counts, (R, P).
        """
        counts, inside = self.counted(ignore_value), self.inside()
        counting = (inside - self.share_of(ignore_value)).where(counts, 1)
        return self.share_of(classes) * (inside / counting).where(counts, 0), counts.float()

    def of_each_class(self, classes: Tensor, ignore_value: int) -> tuple[Tensor, Tensor]:
        """As :meth:`labels`, of many classes an image at the same points.

        Args:
            classes: (R, M).
            ignore_value: class id of pixels that do not count.

        Returns:
            labels, (R, M, P); and whether each point counts, (R, P).
        """
        each = Neighbours(*(tuple(one[:, None] for one in part) for part in self))
        labels, counts = each.labels(classes[..., None], ignore_value)
        return labels, counts[:, 0]


def at_points(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (R, C, h, w) at points (R, P, 2) in [0, 1], bilinear, as (R, C, P)."""
    return F.grid_sample(maps, (2 * points - 1)[:, :, None], align_corners=False)[..., 0]


def present(target: Tensor, ignore_value: int) -> Tensor:
    """The classes of a target (H, W) in ascending order, without the ignore value."""
    if target.is_meta:
        return target.new_zeros(1)
    ids = torch.unique(target)
    found: Tensor = ids[ids != ignore_value]
    return found
