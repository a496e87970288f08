"""Classes of losses that a configuration chooses; they hold the settings for the functions of ``functional.py``.

A configuration names one by ``class_path: lightning_seg.losses.OHEM`` and its settings as ``init_args``.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_seg.described import Described
from lightning_seg.errors import ConfigError
from lightning_seg.losses import functional, low_memory


class Criterion(Described, nn.Module, ABC):
    """Base of the losses: brings logits to the size of the targets, checks class weights, names the result.

    A subclass sets ``name`` and computes :meth:`loss`. Logits and targets are as in
    :mod:`lightning_seg.losses.functional`, except that logits may be smaller or larger than the targets.

    Args:
        class_weights: one weight per class in id order, at least 0; null: all 1.
        low_memory: give :meth:`loss` the logits without resizing them; only some losses can use that.

    Raises:
        ConfigError: if a class weight is negative or not finite.
    """

    name: ClassVar[str]
    class_weights: Tensor | None

    def __init__(self, class_weights: list[float] | None = None, low_memory: bool = False) -> None:
        super().__init__()
        self.low_memory = low_memory
        weights = class_weights or []
        self._require(all(0 <= weight < math.inf for weight in weights), "class_weights", weights, "finite, at least 0")
        buffer = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", buffer, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """The loss under its name, such as ``{"loss_dice": ...}``, a scalar.

        Args:
            logits: (N, K, h, w), any floating type; resized bilinearly to (H, W), in float32 if in half precision.
            targets: (N, H, W), int64 or uint8.
            ignore_index: label of pixels that do not count.

        Raises:
            ConfigError: if the number of class weights is not K.
        """
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise ConfigError(
                f"{type(self).__name__}.class_weights holds {len(self.class_weights)} weights, but the model has "
                f"{logits.shape[1]} classes: give one weight for each of data.classes, in that order"
            )
        if not self.low_memory:
            logits = resize(logits, targets)
        return {f"loss_{self.name}": self.loss(logits, targets, ignore_index)}

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        """The loss of logits (N, K, H, W), or of any height and width with ``low_memory``, and targets (N, H, W)."""

    def _require(self, holds: bool, setting: str, value: object, expected: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}.{setting} is {value}, but must be {expected}")


class CrossEntropy(Criterion):
    """Cross-entropy, ``loss_cross_entropy``: see :func:`~lightning_seg.losses.functional.cross_entropy`.

    Args:
        class_weights: one weight per class in id order, at least 0; null: all 1.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).
        low_memory: compute loss and gradient without the upsampled logits, see :mod:`lightning_seg.losses.low_memory`:
            equal up to rounding, with a fraction of the memory and, on a CPU, of the time; differentiable once.

    Raises:
        ConfigError: if a setting is out of range.
    """

    name = "cross_entropy"

    def __init__(
        self, class_weights: list[float] | None = None, label_smoothing: float = 0.0, low_memory: bool = False
    ) -> None:
        super().__init__(class_weights, low_memory)
        self._require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "in [0, 1)")
        self.label_smoothing = label_smoothing

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        function = low_memory.cross_entropy if self.low_memory else functional.cross_entropy
        return function(
            logits,
            targets,
            ignore_index=ignore_index,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
        )


class OHEM(Criterion):
    """Cross-entropy of hard pixels, ``loss_ohem``: see :func:`~lightning_seg.losses.functional.ohem_cross_entropy`.

    Args:
        threshold: pixels whose true class has a lower probability are kept, in (0, 1].
        min_kept: number of pixels to keep at least, of the whole batch of one process, not per image; at least 1.
        class_weights: one weight per class in id order, at least 0; null: all 1.
        low_memory: compute loss and gradient without the upsampled logits, see :mod:`lightning_seg.losses.low_memory`:
            equal up to rounding, with a fraction of the memory and, on a CPU, of the time; differentiable once.

    Raises:
        ConfigError: if a setting is out of range.
    """

    name = "ohem"

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: int = 100_000,
        class_weights: list[float] | None = None,
        low_memory: bool = False,
    ) -> None:
        super().__init__(class_weights, low_memory)
        self._require(0 < threshold <= 1, "threshold", threshold, "in (0, 1]: it is a probability")
        self._require(min_kept >= 1, "min_kept", min_kept, "at least 1: it is a number of pixels per batch")
        self.threshold = threshold
        self.min_kept = min_kept

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        function = low_memory.ohem_cross_entropy if self.low_memory else functional.ohem_cross_entropy
        return function(
            logits,
            targets,
            ignore_index=ignore_index,
            threshold=self.threshold,
            min_kept=self.min_kept,
            class_weights=self.class_weights,
        )


class HardPixelMining(Criterion):
    """Detectron2's ``MODEL.SEM_SEG_HEAD.LOSS_TYPE: hard_pixel_mining``, ``loss_hard_pixel_mining``.

    See :func:`~lightning_seg.losses.functional.hard_pixel_cross_entropy`.

    Args:
        top_k_percent: share of the batch's pixels to keep, in (0, 1], in spite of its name: 0.2 keeps a fifth.
        class_weights: one weight per class in id order, at least 0; null: all 1.
        low_memory: compute loss and gradient without the upsampled logits, see :mod:`lightning_seg.losses.low_memory`:
            equal up to rounding, with a fraction of the memory and, on a CPU, of the time; differentiable once.

    Raises:
        ConfigError: if a setting is out of range.
    """

    name = "hard_pixel_mining"

    def __init__(
        self, top_k_percent: float = 0.2, class_weights: list[float] | None = None, low_memory: bool = False
    ) -> None:
        super().__init__(class_weights, low_memory)
        self._require(0 < top_k_percent <= 1, "top_k_percent", top_k_percent, "in (0, 1]: 0.2 keeps a fifth")
        self.top_k_percent = top_k_percent

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        function = low_memory.hard_pixel_cross_entropy if self.low_memory else functional.hard_pixel_cross_entropy
        return function(
            logits,
            targets,
            ignore_index=ignore_index,
            top_k_percent=self.top_k_percent,
            class_weights=self.class_weights,
        )


class Focal(Criterion):
    """Focal loss, ``loss_focal``: see :func:`~lightning_seg.losses.functional.focal`.

    Args:
        gamma: how much less easy pixels count, at least 0; 0 is cross-entropy.
        class_weights: the paper's α, one weight per class in id order, at least 0; null: all 1.

    Raises:
        ConfigError: if a setting is out of range.
    """

    name = "focal"

    def __init__(self, gamma: float = 2.0, class_weights: list[float] | None = None) -> None:
        super().__init__(class_weights)
        self._require(0 <= gamma < math.inf, "gamma", gamma, "finite, at least 0")
        self.gamma = gamma

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        return functional.focal(
            logits, targets, ignore_index=ignore_index, gamma=self.gamma, class_weights=self.class_weights
        )


class Dice(Criterion):
    """Soft Dice loss, ``loss_dice``: see :func:`~lightning_seg.losses.functional.dice`.

    Args:
        smooth: pixels added to numerator and denominator, at least 0; it damps the loss of small classes.

    Raises:
        ConfigError: if a setting is out of range.
    """

    name = "dice"

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self._require(0 <= smooth < math.inf, "smooth", smooth, "finite, at least 0")
        self.smooth = smooth

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        return functional.dice(logits, targets, ignore_index=ignore_index, smooth=self.smooth)


class LovaszSoftmax(Criterion):
    """Lovász-Softmax, ``loss_lovasz_softmax``: see :func:`~lightning_seg.losses.functional.lovasz_softmax`."""

    name = "lovasz_softmax"

    def __init__(self) -> None:
        super().__init__()

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        return functional.lovasz_softmax(logits, targets, ignore_index=ignore_index)


class BoundaryWeighted(Criterion):
    """Cross-entropy that counts boundaries more, ``loss_boundary_weighted``.

    See :func:`~lightning_seg.losses.functional.boundary_weighted_cross_entropy`.

    Args:
        radius: how near to a boundary a pixel must be, in pixels of the targets, at least 1.
        boundary_weight: is added to the weight of these pixels, which is 1 elsewhere; at least 0.

    Raises:
        ConfigError: if a setting is out of range.
    """

    name = "boundary_weighted"

    def __init__(self, radius: int, boundary_weight: float) -> None:
        super().__init__()
        self._require(radius >= 1, "radius", radius, "at least 1 pixel")
        self._require(0 <= boundary_weight < math.inf, "boundary_weight", boundary_weight, "finite, at least 0")
        self.radius = radius
        self.boundary_weight = boundary_weight

    def loss(self, logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
        return functional.boundary_weighted_cross_entropy(
            logits, targets, ignore_index=ignore_index, radius=self.radius, boundary_weight=self.boundary_weight
        )


def resize(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits (N, K, H, W) at the height and width of targets (N, H, W), bilinearly where they have another."""
    if logits.shape[2:] == targets.shape[1:]:
        return logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.interpolate(logits, targets.shape[1:], mode="bilinear", align_corners=False)
