"""Adds UPerNet's decoder: a pooling pyramid on top of a feature pyramid."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from lightning_seg.models.heads.head import Head, check_norm, check_positive, conv_norm_relu, predictor, resize_like

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@SEM_SEG_HEADS_REGISTRY.register()
class UPerNetHead(Head):
    """UPerNet's head for one task (Xiao et al. 2018, https://arxiv.org/abs/1807.10221).

    A pooling pyramid (:class:`PoolingPyramid`) widens the view of the deepest level. 1×1 convolutions bring the others
    to ``conv_dims`` channels, and from the deepest on each is added, upsampled, to the next finer one. A 3×3
    convolution smooths each sum; all are upsampled to the finest, concatenated and fused by a 3×3 convolution.

    Args:
        input_shape: channels and stride of each level; levels of one stride are added without upsampling.
        num_classes: K.
        conv_dims: output channels of every convolution but the last.
        pool_scales: cells per side of each average pooling.
        common_stride: of the logits; must be the finest level's.
        loss_weight: factor of the loss.
        norm: one of Detectron2's, or empty for none.
        ignore_value: class id of pixels that do not count.

    Raises:
        ConfigError: if settings do not fit the levels or each other.
    """

    @configurable  # type: ignore[untyped-decorator]  # Detectron2 has no types
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        pool_scales: Sequence[int],
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str = "GN",
        ignore_value: int = 255,
    ) -> None:
        super().__init__(input_shape, common_stride=common_stride, loss_weight=loss_weight, ignore_value=ignore_value)
        check_positive([conv_dims], "CONVS_DIM")
        check_positive(pool_scales, "POOL_SCALES")
        check_norm(norm, [conv_dims], "CONVS_DIM")
        *finer, deepest = self.levels
        self.pyramid = PoolingPyramid(deepest.channels, conv_dims, pool_scales, norm)
        self.laterals = nn.ModuleList(conv_norm_relu(level.channels, conv_dims, 1, norm) for level in finer)
        # The pyramid ends at the deepest level with the pooling pyramid's output.
        self.smoothings = nn.ModuleList(conv_norm_relu(conv_dims, conv_dims, 3, norm) for _ in finer)
        self.fusion = conv_norm_relu(len(self.levels) * conv_dims, conv_dims, 3, norm)
        self.predictor = predictor(conv_dims, num_classes)

    @classmethod
    def from_config(cls, cfg: "CfgNode", input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments, from ``cfg.MODEL.SEM_SEG_HEAD``."""
        return {
            **super().from_config(cfg, input_shape),
            "conv_dims": cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
            "pool_scales": cfg.MODEL.SEM_SEG_HEAD.POOL_SCALES,
        }

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, h, w) of the finest level's size."""
        *finer, deepest = (features[name] for name in self.in_features)
        sums = [self.pyramid(deepest)]
        for level, lateral in zip(reversed(finer), reversed(self.laterals), strict=True):
            sums.append(lateral(level) + resize_like(sums[-1], level))
        pyramid, *rest = sums
        smoothed = [smooth(level) for level, smooth in zip(reversed(rest), self.smoothings, strict=True)]
        joined = torch.cat([resize_like(level, features[self.in_features[0]]) for level in [*smoothed, pyramid]], dim=1)
        logits: Tensor = self.predictor(self.fusion(joined))
        return logits


class PoolingPyramid(nn.Module):
    """The pyramid pooling module of PSPNet (Zhao et al. 2017, https://arxiv.org/abs/1612.01105).

    Each branch averages the input over a grid of cells, reduces the channels with a 1×1 convolution and upsamples;
    input and branches are concatenated and fused by a 3×3 convolution.

    The branch of scale 1 has a bias and no norm: one value per image and channel has no statistics. BN would refuse
    to train on one image, and on a few would learn noise; GN with as many groups as channels would give a constant.

    Args:
        in_channels: of the input.
        out_channels: of each branch and of the output.
        scales: cells per side of each branch's grid.
        norm: one of Detectron2's, or empty for none.
    """

    def __init__(self, in_channels: int, out_channels: int, scales: Sequence[int], norm: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(scale),
                conv_norm_relu(in_channels, out_channels, 1, norm if scale > 1 else ""),
            )
            for scale in scales
        )
        self.fusion = conv_norm_relu(in_channels + len(scales) * out_channels, out_channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        branches = [resize_like(branch(x), x) for branch in self.branches]
        fused: Tensor = self.fusion(torch.cat([x, *branches], dim=1))
        return fused
