"""Base of all heads: levels in order, checked settings, losses, and Detectron2's convention of what forward returns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.normalisation import require_norm

if TYPE_CHECKING:
    from detectron2.config import CfgNode

GROUPS = 32
"""How many groups Detectron2's GN has."""


class Head(nn.Module, ABC):
    """Takes the backbone's features, and returns losses, or logits at the input's size.

    Its interface is that of ``detectron2.modeling.SemSegFPNHead``. A subclass writes ``__init__``, ``from_config`` and
    ``layers``.

    Args:
        input_shape: channels and stride of each feature.
        common_stride: of the logits; must be the finest feature's, divided by ``finer``.
        loss_weight: factor of the loss.
        ignore_value: class id of pixels that do not count.
        finer: how many times finer than the finest feature the logits are.

    Attributes:
        in_features: names of the levels, finest first; levels of the same stride, as in a dilated backbone, stay in
            the order given.
        levels: their channels and strides, in the same order.

    Raises:
        ConfigError: if there is no feature, or ``common_stride`` is not that of the logits.
    """

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        common_stride: int,
        loss_weight: float,
        ignore_value: int,
        finer: int = 1,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.levels = [input_shape[name] for name in self.in_features]
        if not self.levels:
            raise ConfigError("MODEL.SEM_SEG_HEAD.IN_FEATURES is empty: name the backbone's features to segment from")
        check_common_stride(type(self).__name__, common_stride, self.in_features[0], self.levels[0].stride, finer)
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg: "CfgNode", input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments that every head has, from ``cfg.MODEL.SEM_SEG_HEAD``."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "common_stride": head.COMMON_STRIDE,
            "loss_weight": head.LOSS_WEIGHT,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
        }

    @abstractmethod
    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, h, w) at ``common_stride``, from features (N, C, h_i, w_i).

        They have the finest level's size, times ``finer``.
        """

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy of the upsampled logits, in float32; NaN if every pixel is ignored.

        Args:
            predictions: (N, K, h, w), as :meth:`layers` returns them.
            targets: (N, H, W) int64 class ids, with (h - 1) · stride < H ≤ h · stride. If the stride does not divide
                the input, upsampled logits outside it are dropped.

        Raises:
            ConfigError: if the sizes do not fit.
        """
        stride, size = self.common_stride, targets.shape[-2:]
        if tuple(predictions.shape[-2:]) != tuple(-(-side // stride) for side in size):
            raise ConfigError(
                f"the features give logits of {predictions.shape[-2]}×{predictions.shape[-1]} at stride {stride}, "
                f"which does not fit an input of {size[0]}×{size[1]}: use inputs that the backbone's strides divide"
            )
        predictions = F.interpolate(predictions.float(), scale_factor=stride, mode="bilinear", align_corners=False)
        predictions = predictions[..., : size[0], : size[1]]
        loss = F.cross_entropy(predictions, targets, ignore_index=self.ignore_value)
        return {"loss_sem_seg": loss * self.loss_weight}

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training, None and the losses; in evaluation, logits (N, K, h · stride, w · stride) and no losses."""
        logits = self.layers(features)
        if self.training:
            assert targets is not None, "training needs targets"
            return None, self.losses(logits, targets)
        return F.interpolate(logits, scale_factor=self.common_stride, mode="bilinear", align_corners=False), {}


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> nn.Module:
    """A convolution that keeps the size, a norm and a ReLU, with the initialisation and bias of ``SemSegFPNHead``."""
    conv: nn.Module = Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not norm,
        norm=get_norm(norm, out_channels), activation=F.relu,
    )  # fmt: skip
    weight_init.c2_msra_fill(conv)
    return conv


def predictor(in_channels: int, num_classes: int) -> nn.Module:
    """The 1×1 convolution from features to logits, initialised as ``SemSegFPNHead``'s."""
    conv: nn.Module = Conv2d(in_channels, num_classes, kernel_size=1)
    weight_init.c2_msra_fill(conv)
    return conv


def resize_like(x: Tensor, like: Tensor, mode: str = "bilinear") -> Tensor:
    """Give ``x`` (N, C, h, w) the height and width of ``like``, whatever their ratio."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode=mode, align_corners=False if mode == "bilinear" else None)


def check_norm(norm: str, channels: Sequence[int], key: str) -> None:
    """Refuse a norm that does not exist, or that cannot follow a convolution.

    Args:
        norm: of ``MODEL.SEM_SEG_HEAD.NORM``.
        channels: of the convolutions that it follows.
        key: what sets them, such as ``CONVS_DIM``.

    Raises:
        ConfigError: says which setting to change.
    """
    require_norm("MODEL.SEM_SEG_HEAD.NORM", norm)
    uneven = [count for count in channels if count % GROUPS]
    if norm == "GN" and uneven:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.{key} has {uneven[0]} channels, which the {GROUPS} groups of GN do not divide: "
            f"choose a multiple of {GROUPS}, or another MODEL.SEM_SEG_HEAD.NORM"
        )


def check_common_stride(head: str, common_stride: int, finest: str, stride: int, finer: int = 1) -> None:
    """Refuse a stride of the logits that is not that of the resolution at which the head ends.

    Args:
        head: its name.
        common_stride: of ``MODEL.SEM_SEG_HEAD.COMMON_STRIDE``.
        finest: name of the finest level.
        stride: of the finest level.
        finer: how many times finer the head ends.

    Raises:
        ConfigError: says which stride to set.
    """
    place = f"the finest of IN_FEATURES, {finest}, whose stride is {stride}"
    if stride % finer:
        raise ConfigError(
            f"{head} ends {finer} times finer than {place}, which is no whole number of pixels: choose another "
            "backbone or other settings of the head"
        )
    if common_stride * finer != stride:
        ends = f"ends at {place}" if finer == 1 else f"ends {finer} times finer than {place}"
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE is {common_stride}, but {head} {ends}: set COMMON_STRIDE to "
            f"{stride // finer} or choose other IN_FEATURES"
        )


def check_positive(values: Sequence[int], key: str) -> None:
    """Raise a ConfigError unless ``MODEL.SEM_SEG_HEAD.<key>`` has numbers, all whole and positive."""
    if not values or not all(isinstance(value, int) and value > 0 for value in values):
        raise ConfigError(f"MODEL.SEM_SEG_HEAD.{key} is {values!r}, but whole numbers above 0 are needed")


def check_share(value: float, key: str) -> None:
    """Raise a ConfigError unless ``MODEL.SEM_SEG_HEAD.<key>`` is a share, from 0 to below 1."""
    if not 0 <= value < 1:
        raise ConfigError(f"MODEL.SEM_SEG_HEAD.{key} is {value!r}, but a number from 0 to below 1 is needed")
