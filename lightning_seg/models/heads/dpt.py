"""Adds DPT's decoder: residual units fuse levels, those of a plain ViT too, from coarse to fine."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads.head import Head, check_norm, check_positive, check_share, conv_norm_relu, predictor

if TYPE_CHECKING:
    from detectron2.config import CfgNode

FACTORS = (4.0, 2.0, 1.0, 0.5)
"""How many times finer each level of a plain ViT is made, as published."""


@SEM_SEG_HEADS_REGISTRY.register()
class DPTHead(Head):
    """DPT's neck and semantic head (Ranftl et al. 2021, https://arxiv.org/abs/2103.13413).

    From the coarsest on, each level is added to what lies below it by a residual unit, refined by a second one, and
    upsampled to the next finer level; the finest to twice its size. The corners stay in their places. With
    ``reassemble_dims``, four levels of one stride, as of a plain ViT, are first given 1/4, 1/2, 1 and 2 times that
    stride. The paper upsamples once more before it compares with the truth; here that is done as for every head.

    Args:
        input_shape: channels and stride of each level.
        num_classes: K.
        conv_dims: channels of the fusion.
        reassemble_dims: channels of the levels made of a plain ViT's, finest first; none: the levels are used as given.
        dropout: share of values that training drops before the last convolution, from 0 to below 1.
        common_stride: of the logits; half the finest level's, or with ``reassemble_dims`` an eighth.
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
        reassemble_dims: Sequence[int] = (),
        dropout: float = 0.1,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str = "GN",
        ignore_value: int = 255,
    ) -> None:
        finer = 8 if reassemble_dims else 2
        super().__init__(
            input_shape, common_stride=common_stride, loss_weight=loss_weight, ignore_value=ignore_value, finer=finer
        )
        check_positive([conv_dims], "CONVS_DIM")
        check_norm(norm, [conv_dims], "CONVS_DIM")
        check_share(dropout, "DROPOUT")
        channels = [level.channels for level in self.levels]
        self.reassemblies = nn.ModuleList()
        if reassemble_dims:
            check_positive(reassemble_dims, "REASSEMBLE_DIMS")
            self._refuse_reassembly(reassemble_dims)
            self.reassemblies.extend(map(_reassembly, channels, reassemble_dims, FACTORS))
            channels = list(reassemble_dims)
        self.convs = nn.ModuleList(Conv2d(count, conv_dims, 3, padding=1, bias=False) for count in channels)
        self.additions = nn.ModuleList(ResidualUnit(conv_dims, norm) for _ in channels[1:])
        self.refinements = nn.ModuleList(ResidualUnit(conv_dims, norm) for _ in channels)
        self.projections = nn.ModuleList(Conv2d(conv_dims, conv_dims, 1) for _ in channels)
        self.smoothing = conv_norm_relu(conv_dims, conv_dims, 3, norm)
        self.dropout = nn.Dropout(dropout)
        self.predictor = predictor(conv_dims, num_classes)

    @classmethod
    def from_config(cls, cfg: "CfgNode", input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments, from ``cfg.MODEL.SEM_SEG_HEAD``."""
        return {
            **super().from_config(cfg, input_shape),
            "conv_dims": cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
            "reassemble_dims": cfg.MODEL.SEM_SEG_HEAD.REASSEMBLE_DIMS,
            "dropout": cfg.MODEL.SEM_SEG_HEAD.DROPOUT,
        }

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, 2h, 2w), twice as fine as the finest level, which may be made of a plain ViT's."""
        levels = [features[name] for name in self.in_features]
        if self.reassemblies:
            levels = [reassemble(level) for level, reassemble in zip(levels, self.reassemblies, strict=True)]
        levels = [conv(level) for level, conv in zip(levels, self.convs, strict=True)]
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *((level.shape[-2], level.shape[-1]) for level in levels[:-1])]
        x = levels[-1]
        for place in reversed(range(len(levels))):
            if place < len(self.additions):
                x = x + self.additions[place](levels[place])
            x = self.refinements[place](x)
            x = F.interpolate(x, size=sizes[place], mode="bilinear", align_corners=True)
            x = self.projections[place](x)
        logits: Tensor = self.predictor(self.dropout(self.smoothing(x)))
        return logits

    def _refuse_reassembly(self, dims: Sequence[int]) -> None:
        strides = {level.stride for level in self.levels}
        if len(dims) == len(self.levels) == len(FACTORS) and len(strides) == 1:
            return
        given = ", ".join(f"{name} ({shape.stride})" for name, shape in zip(self.in_features, self.levels, strict=True))
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.REASSEMBLE_DIMS has {len(dims)} numbers and IN_FEATURES is {given}, but four numbers "
            "and four levels of one stride, as of a plain ViT, are needed: leave REASSEMBLE_DIMS empty for levels that "
            "are a pyramid already"
        )


class ResidualUnit(nn.Module):
    """Two 3×3 convolutions, each after a ReLU and before a norm, added to their input (N, C, h, w)."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            Conv2d(channels, channels, 3, padding=1, bias=not norm, norm=get_norm(norm, channels)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of the same shape."""
        changed = x
        for conv in self.convs:
            changed = conv(F.relu(changed))
        return x + changed


def _reassembly(in_channels: int, channels: int, factor: float) -> nn.Module:
    """A 1×1 convolution, and one that makes the level ``factor`` times as fine."""
    layers: list[nn.Module] = [Conv2d(in_channels, channels, 1)]
    if factor > 1:
        layers.append(nn.ConvTranspose2d(channels, channels, int(factor), stride=int(factor)))
    elif factor < 1:
        layers.append(Conv2d(channels, channels, 3, stride=round(1 / factor), padding=1))
    return nn.Sequential(*layers)
