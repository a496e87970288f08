"""Defines the adapter, which trains and evaluates one kind of head."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.structures import DenseScores, Scores

Features = dict[str, Tensor]
Losses = dict[str, Tensor]
LossFunction = Callable[[Tensor, Tensor], Losses]
Size = tuple[int, int]

_KNOWN = ("detectron2.", "lightning_seg.")
"""Packages of heads whose losses take float32 logits even if the head's weights are in half precision."""

EXAMPLE = "examples/custom_head/head.py"


class Found(NamedTuple):
    """The output of a head for one image in evaluation.

    Attributes:
        scores: are evaluated.
        of_loss: the input of the head's main losses, as a batch of one; None if it is not known.
    """

    scores: Scores
    of_loss: Any


class Adapter(ABC):
    """One kind of head.

    Args:
        head: of Detectron2, of its projects or of a user.
        ignore_index: label of pixels that do not count.

    Attributes:
        stride: input pixels per logit, for the logits that the head's losses take.
        hint: is added to an error of the head's code.
    """

    hint = ""

    def __init__(self, head: Any, ignore_index: int) -> None:
        self.head = head
        self.ignore_index = ignore_index
        self.stride = int(owner_of_losses(head).common_stride)

    def refuse(self, *, criterion: Any, auxiliary_stage: str | None) -> None:
        """Raise a ConfigError if a setting of the model cannot work with this head; here, all can."""
        return

    def at_step(self, step: int, total_steps: float) -> None:
        """Take note of the optimiser steps that were made, and of those of the whole run; here, no head needs it."""
        return

    @abstractmethod
    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> Losses:
        """The losses of the head in training mode; zero if no pixel counts.

        Args:
            features: of the backbone.
            targets: (N, H, W) int64, padded to whole strides with the ignore value.
            criterion: takes logits (N, K, h, w) and targets, and replaces the head's main loss; None keeps it.
        """

    @abstractmethod
    def full_scores(self, features: Features, input_size: Size) -> Tensor:
        """A score of each class for each pixel, (N, K, H, W) float32, as a traced graph holds them.

        Args:
            features: of the backbone in evaluation mode.
            input_size: height and width of the padded input.
        """

    @abstractmethod
    def as_probabilities(self, full: Tensor) -> Tensor:
        """What :meth:`full_scores` gave, as probabilities."""

    @abstractmethod
    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        """The output for each image, with what the head's main losses take; the arguments are as above."""

    def check(self, features: Features, targets: Tensor, input_size: Size, levels: Sequence[int]) -> None:
        """Refuse a head whose scores do not cover exactly the padded input, up to whole strides.

        Args:
            features: of the backbone in evaluation mode, without data.
            targets: for these features, as in training.
            input_size: height and width of the padded input.
            levels: strides of the features.

        Raises:
            ConfigError: says which ``common_stride`` fits.
        """
        refuse_size(self.evaluate(features, input_size)[0].scores, self.stride, input_size)

    def settle(self, features: Callable[[], Features], input_size: Size) -> str | None:
        """Find out how to evaluate the head best, if that is unknown; returns a notice for the user, or None.

        Args:
            features: makes random features, of the shapes that the backbone gives for an input.
            input_size: height and width of that input.
        """
        return None

    def own_losses(self, logits: Tensor, targets: Tensor) -> Losses:
        """The head's main losses, from the logits that they take."""
        owner = owner_of_losses(self.head)
        half = logits.dtype in (torch.float16, torch.bfloat16) and not torch.is_autocast_enabled(logits.device.type)
        if half and type(owner).losses.__module__.startswith(_KNOWN):
            logits = logits.float()  # a mean over pixels overflows in half precision
        losses: Losses = owner.losses(logits, targets)
        return losses

    def evaluation_losses(self, found: Found, targets: Tensor, criterion: LossFunction | None) -> Losses:
        """The main losses of one image, from what :meth:`evaluate` returned; the other arguments are as in training."""
        if found.of_loss is None:
            height, width = found.scores.reach
            targets, logits, stride = targets[..., :height, :width], found.scores.maps[None], found.scores.stride
            losses = criterion(logits, targets) if criterion else self._cross_entropy(logits, targets, stride)
            return zero_where_nothing_counts(losses, logits)
        return zero_where_nothing_counts((criterion or self.own_losses)(found.of_loss, targets), found.of_loss)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, stride: int) -> Losses:
        """The cross-entropy of upsampled logits, its mean over the pixels that count, as in ``SemSegFPNHead``."""
        full = F.interpolate(logits.float(), scale_factor=stride, mode="bilinear", align_corners=False)
        height, width = targets.shape[-2:]
        return {"loss_sem_seg": F.cross_entropy(full[..., :height, :width], targets, ignore_index=self.ignore_index)}


class DenseAdapter(Adapter):
    """Trains and evaluates a head that gives logits of pixels."""

    @abstractmethod
    def logits(self, features: Features, input_size: Size) -> tuple[Tensor, int]:
        """What the head in evaluation mode says of an input (padded) of this height and width.

        Returns:
            logits (N, K, h, w), and how many input pixels one stands for on each side.
        """

    def full_scores(self, features: Features, input_size: Size) -> Tensor:
        logits, stride = self.logits(features, input_size)
        return F.interpolate(logits.float(), scale_factor=float(stride), mode="bilinear", align_corners=False)

    def as_probabilities(self, full: Tensor) -> Tensor:
        return full.softmax(1)

    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        """The output for each image with the logits, which the head's main losses take."""
        logits, stride = self.logits(features, input_size)
        return dense(logits, stride, logits)


def dense(logits: Tensor, stride: int, of_loss: Tensor | None) -> list[Found]:
    """Split logits (N, K, h, w) by image; ``of_loss`` are the logits that the head's own ``losses`` takes."""
    return [
        Found(scores, None if of_loss is None else of_loss[place : place + 1])
        for place, scores in enumerate(DenseScores.of(logits, stride))
    ]


def refuse_size(scores: Scores, common_stride: int, input_size: Size) -> None:
    """Raise a ConfigError unless the scores cover exactly the padded input, up to whole strides."""
    (height, width), (found_height, found_width) = input_size, scores.maps.shape[-2:]
    if scores.reach != tuple(-(-side // common_stride) * common_stride for side in input_size):
        raise ConfigError(
            f"the head gives logits of {found_height}×{found_width} for an input of {height}×{width}, which is not "
            f"what its common_stride of {common_stride} (MODEL.SEM_SEG_HEAD.COMMON_STRIDE) says: set it to "
            f"{max(1, round(height / found_height))}, or mend the head"
        )


def owner_of_losses(head: Any) -> Any:
    """The module that has the head's ``losses`` and ``common_stride``: for PointRend, its coarse head."""
    return getattr(head, "coarse_sem_seg_head", head)


def zero_where_nothing_counts(losses: dict[str, Tensor], *logits: Tensor) -> Losses:
    """Make means over no pixel zero: in Detectron2 they are NaN, with a zero gradient.

    A NaN that comes from the logits stays NaN.
    """
    finite = logits[0].isfinite().all()
    for others in logits[1:]:
        finite = finite & others.isfinite().all()
    return {name: loss.where(~(loss.isnan() & finite), loss.nan_to_num()) for name, loss in losses.items()}


def pad_targets(targets: Tensor, stride: int, ignore_value: int) -> Tensor:
    """Pad (N, H, W) to whole strides, as upsampled logits are; at sizes that Detectron2 accepts, nothing changes."""
    height, width = targets.shape[-2:]
    return F.pad(targets, (0, -width % stride, 0, -height % stride), value=ignore_value)


def shown(found: Any) -> str:
    return f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"


@contextmanager
def replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of an instance and always remove it again, so that no copy holds it."""
    before = vars(module).get(name, replaced)
    vars(module)[name] = value
    try:
        yield
    finally:
        if before is replaced:
            del vars(module)[name]
        else:
            vars(module)[name] = before
