"""Adds several losses, each with its weight."""

import math

import torch
from torch import Tensor, nn

from lightning_seg.losses.criteria import Criterion, resize


class WeightedSum(Criterion):
    """Several losses at once, each multiplied by its weight, under its own name.

    A name that occurs again gets ``_2``, ``_3`` and so on, in the order given. Logits are resized once, for the parts
    without ``low_memory``.

    >>> from lightning_seg.losses import CrossEntropy, Dice
    >>> both = WeightedSum([CrossEntropy(), Dice()], weights=[1.0, 0.5])
    >>> losses = both(torch.zeros(1, 2, 4, 4), torch.ones(1, 8, 8, dtype=torch.int64), ignore_index=255)
    >>> {name: round(loss.item(), 3) for name, loss in losses.items()}
    {'loss_cross_entropy': 0.693, 'loss_dice': 0.165}

    Args:
        criteria: the parts, at least one.
        weights: one for each part, at least 0.

    Raises:
        ConfigError: if there is no part, not one weight for each part, or a weight out of range.
    """

    def __init__(self, criteria: list[Criterion], weights: list[float]) -> None:
        super().__init__(low_memory=any(criterion.low_memory for criterion in criteria))
        self._require(len(criteria) > 0, "criteria", "empty", "a list of one loss or more")
        counts = f"{len(weights)} numbers for {len(criteria)} criteria"
        self._require(len(criteria) == len(weights), "weights", counts, "one number for each")
        self._require(all(0 <= weight < math.inf for weight in weights), "weights", weights, "finite, at least 0")
        self.criteria = nn.ModuleList(criteria)
        self.weights = list(weights)

    def forward(self, logits: Tensor, targets: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """The weighted parts by name; for arguments and errors see :meth:`Criterion.forward`."""
        upsampled = logits if all(part.low_memory for part in self.criteria) else resize(logits, targets)
        losses: dict[str, Tensor] = {}
        for criterion, weight in zip(self.criteria, self.weights, strict=True):
            given = logits if criterion.low_memory else upsampled
            for name, part in criterion(given, targets, ignore_index).items():
                losses[_unused(name, losses)] = weight * part
        return losses

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        """The sum of the weighted parts, a scalar."""
        return torch.stack(list(self(logits, targets, ignore_index).values())).sum()


def _unused(name: str, taken: dict[str, Tensor]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
