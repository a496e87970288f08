"""Makes transformers' Mix Transformer, the encoder of SegFormer, a Detectron2 backbone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.pyramid import PaddedFPN, build_fpn
from lightning_seg.models.published_layers import layers_of

if TYPE_CHECKING:
    from detectron2.config import CfgNode

STRIDES = {"stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32}
"""Of each stage, in pixels."""


class MiTBackbone(Backbone):  # type: ignore[misc]  # Detectron2 has no types
    """Mix Transformer (Xie et al. 2021, https://arxiv.org/abs/2105.15203) with random weights; levels by name.

    Args:
        embed_dims: channels of each of the four stages.
        depths: blocks of each stage.
        num_heads: of the attention of each stage.
        drop_path_rate: of stochastic depth in the last block, 0 to 1; earlier blocks have less.
        out_features: names of the stages that it gives; stages after the last of them are left out.
        in_channels: of the image.

    Raises:
        DependencyError: if transformers is missing.
        ConfigError: if settings do not fit each other.
    """

    def __init__(
        self,
        *,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_heads: Sequence[int],
        drop_path_rate: float = 0.1,
        out_features: Sequence[str] = tuple(STRIDES),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        _refuse(embed_dims, depths, num_heads, out_features)
        stages = max(list(STRIDES).index(name) for name in out_features) + 1
        self.network = _network(
            num_channels=in_channels,
            num_encoder_blocks=stages,
            hidden_sizes=list(embed_dims),
            depths=list(depths[:stages]),
            num_attention_heads=list(num_heads),
            drop_path_rate=drop_path_rate,
        )
        self.shapes = {
            name: ShapeSpec(channels=channels, stride=STRIDES[name])
            for name, channels in zip(STRIDES, embed_dims, strict=True)
            if name in out_features
        }

    @property
    def size_divisibility(self) -> int:
        """The stride of the last stage: height and width of a batch are padded to a multiple of it, in pixels."""
        return max(STRIDES[name] for name in self.shapes)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level, from fine to coarse."""
        return dict(self.shapes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Levels (N, channels, H / stride, W / stride) of normalised images (N, C, H, W)."""
        levels: dict[str, Tensor] = {}
        x = images
        for name, stage in zip(STRIDES, self.network.stages, strict=False):
            x = stage(x)
            levels[name] = x
        return {name: levels[name] for name in self.shapes}


def build_mit_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> MiTBackbone:
    """The network that ``MODEL.MIT`` describes; it ignores ``MODEL.BACKBONE.FREEZE_AT``, see the package."""
    mit = cfg.MODEL.MIT
    return MiTBackbone(
        embed_dims=mit.EMBED_DIMS,
        depths=mit.DEPTHS,
        num_heads=mit.NUM_HEADS,
        drop_path_rate=mit.DROP_PATH_RATE,
        out_features=mit.OUT_FEATURES,
        in_channels=input_shape.channels,
    )


def build_mit_fpn_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedFPN:
    """The network that ``MODEL.MIT`` describes under the feature pyramid that ``MODEL.FPN`` describes."""
    return build_fpn(cfg, build_mit_backbone(cfg, input_shape))


def _refuse(
    embed_dims: Sequence[int], depths: Sequence[int], num_heads: Sequence[int], out_features: Sequence[str]
) -> None:
    for key, values in {"EMBED_DIMS": embed_dims, "DEPTHS": depths, "NUM_HEADS": num_heads}.items():
        if len(values) != len(STRIDES) or not all(isinstance(value, int) and value > 0 for value in values):
            raise ConfigError(f"MODEL.MIT.{key} is {values!r}, but four whole numbers above 0, one a stage, are needed")
    if any(channels % heads for channels, heads in zip(embed_dims, num_heads, strict=True)):
        raise ConfigError(
            f"MODEL.MIT.EMBED_DIMS is {embed_dims!r}, which NUM_HEADS, {num_heads!r}, does not divide: change either"
        )
    if not out_features or not set(out_features) <= set(STRIDES):
        raise ConfigError(f"MODEL.MIT.OUT_FEATURES is {out_features!r}, but some of {', '.join(STRIDES)} are needed")


def _network(**settings: Any) -> Any:
    layers = layers_of("segformer", "MiT (build_mit_backbone)")
    return layers.SegformerModel(layers.SegformerConfig(**settings))


for _build in (build_mit_backbone, build_mit_fpn_backbone):
    BACKBONE_REGISTRY.register(_build)
