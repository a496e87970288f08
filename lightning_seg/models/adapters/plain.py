"""Trains and evaluates heads that have nothing but a forward from features to logits."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.models.adapters.adapter import (
    EXAMPLE,
    DenseAdapter,
    Features,
    LossFunction,
    Size,
    shown,
    zero_where_nothing_counts,
)


class Plain(DenseAdapter):
    """A head that only has ``forward(features)``, which returns logits (N, K, h, w); this adds loss and upsampling.

    The loss is ``SemSegFPNHead``'s, the mean cross-entropy of the upsampled logits. Their stride is the head's
    ``common_stride`` if it has one, else what :meth:`check` finds.
    """

    hint = f"; a head that does is {EXAMPLE}"

    def __init__(self, head: Any, ignore_index: int) -> None:
        self.head = head
        self.ignore_index = ignore_index
        self.stride = int(getattr(head, "common_stride", 1))

    def check(self, features: Features, targets: Tensor, input_size: Size, levels: Sequence[int]) -> None:
        if not hasattr(self.head, "common_stride"):
            self._measure(_logits(self.head, features), input_size, levels)
        super().check(features, targets, input_size, levels)

    def _measure(self, logits: Tensor, input_size: Size, levels: Sequence[int]) -> None:
        """Find the stride of logits (N, K, h, w) of a padded input: one of the backbone's, else a power of two."""
        for stride in (1, *sorted(levels), *(2**power for power in range(1, 8))):
            if tuple(logits.shape[-2:]) == tuple(-(-side // stride) for side in input_size):
                self.stride = stride
                return
        raise ConfigError(
            f"{type(self.head).__name__} gives logits of {logits.shape[-2]}×{logits.shape[-1]} for an input of "
            f"{input_size[0]}×{input_size[1]}, which no whole stride explains: give them the size of a feature"
        )

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> dict[str, Tensor]:
        logits = _logits(self.head, features)
        return zero_where_nothing_counts((criterion or self.own_losses)(logits, targets), logits)

    def logits(self, features: Features, input_size: Size) -> tuple[Tensor, int]:
        return _logits(self.head, features), self.stride

    def own_losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return self._cross_entropy(logits, targets, self.stride)


def _logits(head: Any, features: Features) -> Tensor:
    """The logits that the forward of a head without ``losses`` returns.

    Raises:
        ConfigError: if it returns no logits.
    """
    found = head(features)
    if not (isinstance(found, Tensor) and found.ndim == 4):
        raise ConfigError(
            f"{type(head).__name__} has no losses(logits, targets), and its forward(features) gives {shown(found)}, "
            f"not logits (N, K, h, w): return these, or write a head as in {EXAMPLE}"
        )
    return found
