"""Trains unknown heads through their ``losses``, and evaluates them through their forward."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.adapters.adapter import (
    EXAMPLE,
    Adapter,
    DenseAdapter,
    Features,
    Found,
    LossFunction,
    Size,
    dense,
    owner_of_losses,
    refuse_size,
    replaced,
    shown,
    zero_where_nothing_counts,
)
from lightning_seg.structures import DenseScores


class Foreign(DenseAdapter):
    """Any other head with ``losses``, ``common_stride`` and ``ignore_value``; its forward evaluates it.

    Attributes:
        by_losses: whether the logits that ``losses`` gets, upsampled, are known to be the output in evaluation. Then
            they are read there, and logits at full size are never made.
    """

    hint = f"; a head that does is {EXAMPLE}"

    def __init__(self, head: Any, ignore_index: int) -> None:
        super().__init__(head, ignore_index)
        self.by_losses = False

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> dict[str, Tensor]:
        return losses_of_forward(self, features, targets, criterion)

    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        logits, stride = self.logits(features, input_size)
        return dense(logits, stride, logits if self.by_losses else None)

    def logits(self, features: Features, input_size: Size) -> tuple[Tensor, int]:
        if self.by_losses:
            return self.before_losses(features, None), self.stride
        logits = logits_of_forward(self.head, features)
        owner = owner_of_losses(self.head)
        reach = -(-input_size[0] // self.stride) * self.stride
        if owner is not self.head:  # it refines, to a stride of its own
            stride = max(1, reach // logits.shape[-2])
        else:
            stride = self.stride if logits.shape[-2] * self.stride == reach else 1
        return logits, stride

    def check(self, features: Features, targets: Tensor, input_size: Size, levels: Sequence[int]) -> None:
        refuse_size(DenseScores(self.before_losses(features, targets)[0], self.stride), self.stride, input_size)
        scores = self.evaluate(features, input_size)[0].scores
        exact = scores.stride == 1 and scores.reach == input_size
        refuse_size(scores, 1 if exact else self.stride, input_size)

    def settle(self, features: Callable[[], Features], input_size: Size) -> str | None:
        """Find out whether the logits may be read before ``losses``: they may if both ways agree to the bit.

        A copy is tried, whose parameters and buffers are moved a little. Else a weight that starts at zero, such as
        that of a refinement, would hide the difference.
        """
        self.by_losses = self._agrees_with_losses(features(), input_size)
        if self.by_losses:
            return None
        return (
            f"{type(self.head).__name__} is evaluated by its own forward; val/loss is the mean cross-entropy of that, "
            "or model.criterion"
        )

    def _agrees_with_losses(self, features: Features, input_size: Size) -> bool:
        twin = Foreign(_moved(self.head), self.ignore_index)
        before = _state(twin.head)
        try:
            with torch.no_grad():
                found = [one.scores for one in twin.evaluate(features, input_size)]
                read = twin.before_losses(features, None)
        except Exception:  # a user's code may ask for targets here: then its forward evaluates it
            return False
        if found[0].stride != self.stride:
            read = F.interpolate(read, scale_factor=self.stride, mode="bilinear", align_corners=False)
        after = _state(twin.head)
        unharmed = all(torch.equal(after[name], tensor) for name, tensor in before.items())
        return unharmed and torch.equal(read, torch.stack([scores.maps for scores in found]))

    def before_losses(self, features: Features, targets: Tensor | None) -> Tensor:
        """The logits that the forward first passes to ``losses``; only the head itself is in training mode."""

        def stop(logits: Tensor, *_: Any) -> dict[str, Tensor]:
            raise _ReachedError(logits)

        with replaced(owner_of_losses(self.head), "losses", stop), replaced(self.head, "training", True):
            try:
                self.head(features, targets)
            except _ReachedError as reached:
                return reached.logits
        raise _without_losses(self.head)


def logits_of_forward(head: Any, features: Features) -> Tensor:
    """The logits that the forward of a head returns in evaluation.

    Raises:
        ConfigError: if it returns no logits.
    """
    found = head(features, None)
    logits = found[0] if isinstance(found, tuple) and found else found
    if not (isinstance(logits, Tensor) and logits.ndim == 4):
        raise ConfigError(
            f"{type(head).__name__}.forward(features, targets) gives {shown(found)} in evaluation, but (logits, {{}}) "
            f"with logits (N, K, H, W) at the input's size is needed: see {EXAMPLE}"
        )
    return logits


def _moved(head: nn.Module) -> nn.Module:
    """A copy in evaluation mode with all numbers a little larger; so variances stay positive."""
    twin = deepcopy(head).eval()
    with torch.no_grad():
        for tensor in [*twin.parameters(), *twin.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=0.1)
    return twin


def _state(head: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors of a head, and of its own numbers."""
    numbers = {name: torch.tensor(value) for name, value in vars(head).items() if isinstance(value, int | float)}
    return {**{name: tensor.clone() for name, tensor in head.state_dict().items()}, **numbers}


class _ReachedError(Exception):
    """Ends a forward at its first call of ``losses``."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits


def losses_of_forward(
    adapter: Adapter, features: Features, targets: Tensor, criterion: LossFunction | None
) -> dict[str, Tensor]:
    """What the forward returns in training if, for this call, another function replaces ``losses``."""
    owner = owner_of_losses(adapter.head)
    of_logits = criterion or owner.losses
    seen: list[Tensor] = []

    def losses(logits: Tensor, padded: Tensor, *more: Any, **named: Any) -> dict[str, Tensor]:
        seen.append(logits)
        return of_logits(logits, padded, *more, **named)

    with replaced(owner, "losses", losses):
        found: dict[str, Tensor] = adapter.head(features, targets)[1]
    if not seen:
        raise _without_losses(adapter.head)
    return zero_where_nothing_counts(found, *seen)


def _without_losses(head: Any) -> ConfigError:
    return ConfigError(
        f"{type(head).__name__}.forward does not call self.losses(logits, targets) in training, but model.criterion "
        f"needs that: call it, as in {EXAMPLE}"
    )
