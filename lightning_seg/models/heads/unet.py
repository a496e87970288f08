"""Adds the decoder of U-Net to the levels of any backbone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads.head import Head, check_norm, check_positive, conv_norm_relu, predictor, resize_like

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@SEM_SEG_HEADS_REGISTRY.register()
class UNetHead(Head):
    """U-Net's expanding path (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597).

    From the deepest level on, each step upsamples to the size of the next finer level (nearest), concatenates that
    level, and applies two 3×3 convolutions with norm and ReLU. It ends at the finest level; Detectron2's ResNets have
    none finer than stride 4.

    Args:
        input_shape: channels and stride of each level; levels of one stride are joined without upsampling.
        num_classes: K.
        decoder_channels: output channels of each step, deepest first; those beyond the number of steps are unused.
        common_stride: of the logits; must be the finest level's.
        loss_weight: factor of the loss.
        norm: one of Detectron2's, or empty for none.
        ignore_value: class id of pixels that do not count.

    Raises:
        ConfigError: if there are fewer than two levels, too few ``decoder_channels``, or settings do not fit.
    """

    @configurable  # type: ignore[untyped-decorator]  # Detectron2 has no types
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        decoder_channels: Sequence[int],
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str = "GN",
        ignore_value: int = 255,
    ) -> None:
        super().__init__(input_shape, common_stride=common_stride, loss_weight=loss_weight, ignore_value=ignore_value)
        num_steps = len(self.levels) - 1
        if num_steps == 0:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {self.in_features[0]} alone, but UNetHead joins two levels or more"
            )
        if len(decoder_channels) < num_steps:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.DECODER_CHANNELS has {len(decoder_channels)} numbers, but the "
                f"{len(self.levels)} levels of IN_FEATURES take {num_steps} steps: give {num_steps} numbers, "
                "the deepest step's first"
            )
        decoder_channels = decoder_channels[:num_steps]
        check_positive(decoder_channels, "DECODER_CHANNELS")
        check_norm(norm, decoder_channels, "DECODER_CHANNELS")
        self.steps = nn.ModuleList()
        below = self.levels[-1].channels
        for skip, channels in zip(reversed(self.levels[:-1]), decoder_channels, strict=True):
            first = conv_norm_relu(below + skip.channels, channels, 3, norm)
            self.steps.append(nn.Sequential(first, conv_norm_relu(channels, channels, 3, norm)))
            below = channels
        self.predictor = predictor(below, num_classes)

    @classmethod
    def from_config(cls, cfg: "CfgNode", input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments, from ``cfg.MODEL.SEM_SEG_HEAD``."""
        return {
            **super().from_config(cfg, input_shape),
            "decoder_channels": cfg.MODEL.SEM_SEG_HEAD.DECODER_CHANNELS,
        }

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, h, w) of the finest level's size."""
        *skips, x = (features[name] for name in self.in_features)
        for skip, step in zip(reversed(skips), self.steps, strict=True):
            x = step(torch.cat([resize_like(x, skip, mode="nearest"), skip], dim=1))
        logits: Tensor = self.predictor(x)
        return logits
