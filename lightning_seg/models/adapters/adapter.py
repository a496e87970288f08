"""What an adapter is: how one kind of head is trained and evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Features = dict[str, Tensor]
Losses = dict[str, Tensor]
LossFunction = Callable[[Tensor, Tensor], Losses]

_KNOWN = ("detectron2.", "lightning_seg.")
"""Where heads are from whose losses take float32 logits also where their weights are of half precision."""

EXAMPLE = "examples/custom_head/head.py"


class HeadLogits(NamedTuple):
    """What a head says in evaluation.

    Attributes:
        logits: (N, K, h, w), those that are evaluated.
        stride: how many input pixels one of them stands for, on each side.
        of_loss: the logits that the head's own ``losses`` takes; None where they are not known.
    """

    logits: Tensor
    stride: int
    of_loss: Tensor | None

    def images(self) -> list["HeadLogits"]:
        """The same of each image, as a batch of one."""
        of_loss = self.of_loss
        return [
            HeadLogits(self.logits[i : i + 1], self.stride, None if of_loss is None else of_loss[i : i + 1])
            for i in range(len(self.logits))
        ]


class Adapter(ABC):
    """One kind of head.

    Args:
        head: of Detectron2, of its projects or of a user.
        ignore_index: target that counts nowhere.

    Attributes:
        stride: input pixels per logit that the head's losses take.
    """

    def __init__(self, head: Any, ignore_index: int) -> None:
        self.head = head
        self.ignore_index = ignore_index
        self.stride = int(owner_of_losses(head).common_stride)

    @abstractmethod
    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> Losses:
        """The losses of the head in training mode; zero where no pixel counts.

        Args:
            features: of the backbone.
            targets: (N, H, W) int64, padded to whole strides with the ignore value.
            criterion: takes logits (N, K, h, w) and targets, in place of the head's main loss; None: its own.
        """

    @abstractmethod
    def evaluate(self, features: Features, input_size: tuple[int, int]) -> HeadLogits:
        """What the head in evaluation mode says of an input (padded) of this height and width."""

    def own_losses(self, logits: Tensor, targets: Tensor) -> Losses:
        """The head's main losses of the logits that they are defined on."""
        owner = owner_of_losses(self.head)
        half = logits.dtype in (torch.float16, torch.bfloat16) and not torch.is_autocast_enabled(logits.device.type)
        if half and type(owner).losses.__module__.startswith(_KNOWN):
            logits = logits.float()  # a mean over pixels overflows in half precision
        losses: Losses = owner.losses(logits, targets)
        return losses

    def evaluation_losses(self, found: HeadLogits, targets: Tensor, criterion: LossFunction | None) -> Losses:
        """The main losses of what :meth:`evaluate` gave; arguments as in training."""
        if found.of_loss is None:
            height, width = (side * found.stride for side in found.logits.shape[-2:])
            targets, logits = targets[..., :height, :width], found.logits
            losses = criterion(logits, targets) if criterion else self._cross_entropy(logits, targets, found.stride)
            return zero_where_nothing_counts(losses, logits)
        return zero_where_nothing_counts((criterion or self.own_losses)(found.of_loss, targets), found.of_loss)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, stride: int) -> Losses:
        """The mean over pixels that count, of upsampled logits, as in ``SemSegFPNHead``."""
        full = F.interpolate(logits.float(), scale_factor=stride, mode="bilinear", align_corners=False)
        height, width = targets.shape[-2:]
        return {"loss_sem_seg": F.cross_entropy(full[..., :height, :width], targets, ignore_index=self.ignore_index)}


def owner_of_losses(head: Any) -> Any:
    """The module whose ``losses`` and ``common_stride`` are the head's: PointRend's are those of its coarse head."""
    return getattr(head, "coarse_sem_seg_head", head)


def zero_where_nothing_counts(losses: dict[str, Tensor], *logits: Tensor) -> Losses:
    """Detectron2's means over no pixel are NaN, with a zero gradient; make them zero.

    A NaN that comes from the logits stays one.
    """
    finite = logits[0].isfinite().all()
    for others in logits[1:]:
        finite = finite & others.isfinite().all()
    return {name: loss.where(~(loss.isnan() & finite), loss.nan_to_num()) for name, loss in losses.items()}


def pad_targets(targets: Tensor, stride: int, ignore_value: int) -> Tensor:
    """Pad (N, H, W) to whole strides, as far as upsampled logits reach; changes nothing where Detectron2 runs."""
    height, width = targets.shape[-2:]
    return F.pad(targets, (0, -width % stride, 0, -height % stride), value=ignore_value)


def shown(found: Any) -> str:
    return f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"


@contextmanager
def replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an instance attribute and take it away again, whatever happens, so that copies never hold it."""
    before = vars(module).get(name, replaced)
    vars(module)[name] = value
    try:
        yield
    finally:
        if before is replaced:
            del vars(module)[name]
        else:
            vars(module)[name] = before
