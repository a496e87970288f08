"""Adds SegFormer's decoder, which joins the levels of any backbone by 1×1 convolutions alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from fvcore.nn import weight_init
from torch import Tensor, nn

from lightning_seg.models.heads.head import Head, check_norm, check_positive, check_share, predictor, resize_like

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@SEM_SEG_HEADS_REGISTRY.register()
class SegFormerHead(Head):
    """SegFormer's all-MLP decoder (Xie et al. 2021, https://arxiv.org/abs/2105.15203).

    A 1×1 convolution brings each level to ``conv_dims`` channels. All are upsampled to the finest, concatenated, and
    fused by a 1×1 convolution with norm and ReLU. Here each level meets its part of that convolution before it is
    upsampled, and the parts are added: the same numbers up to rounding, for less work and memory.

    Args:
        input_shape: channels and stride of each level.
        num_classes: K.
        conv_dims: channels of each level, and of their fusion.
        dropout: share of values that training drops before the last convolution, from 0 to below 1.
        common_stride: of the logits; must be the finest level's.
        loss_weight: factor of the loss.
        norm: one of Detectron2's, or empty for none; published with BN.
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
        dropout: float = 0.1,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str = "GN",
        ignore_value: int = 255,
    ) -> None:
        super().__init__(input_shape, common_stride=common_stride, loss_weight=loss_weight, ignore_value=ignore_value)
        check_positive([conv_dims], "CONVS_DIM")
        check_norm(norm, [conv_dims], "CONVS_DIM")
        check_share(dropout, "DROPOUT")
        self.projections = nn.ModuleList(Conv2d(level.channels, conv_dims, 1) for level in self.levels)
        self.fusions = nn.ModuleList(Conv2d(conv_dims, conv_dims, 1, bias=False) for _ in self.levels)
        for projection, fusion in zip(self.projections, self.fusions, strict=True):
            weight_init.c2_xavier_fill(projection)
            weight_init.c2_msra_fill(fusion)
        self.norm = get_norm(norm, conv_dims) or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.predictor = predictor(conv_dims, num_classes)

    @classmethod
    def from_config(cls, cfg: "CfgNode", input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments, from ``cfg.MODEL.SEM_SEG_HEAD``."""
        return {
            **super().from_config(cfg, input_shape),
            "conv_dims": cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
            "dropout": cfg.MODEL.SEM_SEG_HEAD.DROPOUT,
        }

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, h, w) of the finest level's size."""
        levels = [features[name] for name in self.in_features]
        parts = [
            resize_like(fusion(projection(level)), levels[0])
            for level, projection, fusion in zip(levels, self.projections, self.fusions, strict=True)
        ]
        fused = torch.relu(self.norm(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]))
        logits: Tensor = self.predictor(self.dropout(fused))
        return logits
