"""Builds the backbones that Detectron2 has, but cannot build from a ``CfgNode``: RegNet, Swin, ViT and MViT.

Each pads as its levels need it, so that images of any size train. In Detectron2, RegNet and MViT do not pad, and the
attribute of Swin is misspelt.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone, MViT, RegNet, SwinTransformer, ViT
from detectron2.modeling.backbone.regnet import ResBottleneckBlock, SimpleStem, generate_regnet_parameters
from torch import nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.pyramid import (
    PaddedFPN,
    PaddedSimpleFeaturePyramid,
    build_fpn,
    build_simple_pyramid,
)
from lightning_seg.models.backbones.timm_names import require_timm

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class _Padded(Backbone):  # type: ignore[misc]  # Detectron2 has no types
    """Pads to the coarsest level."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of a batch are padded to a multiple of this, in pixels."""
        return int(max(shape.stride for shape in self.output_shape().values()))


class PaddedRegNet(_Padded, RegNet):  # type: ignore[misc]  # likewise
    """Detectron2's RegNet (https://arxiv.org/abs/2003.13678)."""


class PaddedSwin(_Padded, SwinTransformer):  # type: ignore[misc]  # likewise
    """Detectron2's Swin with the right strides: its own begin with 4 for every patch size."""

    def __init__(self, *, patch_size: int, **arguments: object) -> None:
        super().__init__(patch_size=patch_size, **arguments)
        self._out_feature_strides = {f"p{stage}": patch_size * 2**stage for stage in self.out_indices}


class PaddedViT(_Padded, ViT):  # type: ignore[misc]  # likewise
    """Detectron2's ViT of ViTDet."""


class PaddedMViT(_Padded, MViT):  # type: ignore[misc]  # likewise
    """Detectron2's MViTv2."""


def build_regnet_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedRegNet:
    """The RegNet that ``MODEL.REGNET`` describes; ``MODEL.BACKBONE.FREEZE_AT`` freezes its first stages.

    The levels are ``stem`` (stride 2) and ``s1`` … ``s4`` (strides 4 … 32).

    Raises:
        ConfigError: if a level does not exist.
    """

    def stem(_: int, *others: Any) -> SimpleStem:
        return SimpleStem(input_shape.channels, *others)  # Detectron2 asks for 3 channels whatever the image has

    settings = cfg.MODEL.REGNET
    widths, *_ = generate_regnet_parameters(settings.W_A, settings.W_0, settings.W_M, settings.DEPTH)
    stages = [f"s{stage}" for stage, _ in enumerate(widths, start=1)]
    return PaddedRegNet(
        stem_class=stem,
        stem_width=settings.STEM_WIDTH,
        block_class=ResBottleneckBlock,
        depth=settings.DEPTH,
        w_a=settings.W_A,
        w_0=settings.W_0,
        w_m=settings.W_M,
        group_width=settings.GROUP_WIDTH,
        se_ratio=settings.SE_RATIO,
        norm=settings.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        out_features=_known("MODEL.REGNET.OUT_FEATURES", settings.OUT_FEATURES, ("stem", *stages)),
    )


def build_regnet_fpn_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedFPN:
    """FPN over :func:`build_regnet_backbone`."""
    return build_fpn(cfg, build_regnet_backbone(cfg, input_shape))


def build_swin_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedSwin:
    """The Swin transformer that ``MODEL.SWIN`` describes; it ignores ``MODEL.BACKBONE.FREEZE_AT``.

    The levels are ``p0``, ``p1`` … of stride ``PATCH_SIZE``, 2 ``PATCH_SIZE`` …

    Raises:
        DependencyError: if timm is not installed.
        ConfigError: if a level does not exist, stages and heads do not match, or heads do not divide the channels.
    """
    settings = cfg.MODEL.SWIN
    depths, heads = settings.DEPTHS, settings.NUM_HEADS
    if len(depths) != len(heads):
        raise ConfigError(
            f"MODEL.SWIN.DEPTHS has {len(depths)} stages and MODEL.SWIN.NUM_HEADS {len(heads)}: give one number a stage"
        )
    for stage, count in enumerate(heads):
        _require_divisible("MODEL.SWIN", f" in stage {stage}", settings.EMBED_DIM * 2**stage, count)
    levels = tuple(f"p{stage}" for stage in range(len(depths)))
    names = _known("MODEL.SWIN.OUT_FEATURES", settings.OUT_FEATURES, levels)
    with _timm_layers("Swin"):
        return PaddedSwin(
            patch_size=settings.PATCH_SIZE,
            in_chans=input_shape.channels,
            embed_dim=settings.EMBED_DIM,
            depths=list(depths),
            num_heads=list(heads),
            window_size=settings.WINDOW_SIZE,
            drop_path_rate=settings.DROP_PATH_RATE,
            out_indices=[levels.index(name) for name in names],
        )


def build_swin_fpn_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedFPN:
    """FPN over :func:`build_swin_backbone`."""
    return build_fpn(cfg, build_swin_backbone(cfg, input_shape))


def build_vit_pyramid_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedSimpleFeaturePyramid:
    """The ViT that ``MODEL.VIT`` describes under a SimpleFeaturePyramid; it ignores ``MODEL.BACKBONE.FREEZE_AT``.

    The levels are ``p2`` … ``p5``; for patches of 16 pixels, their strides are 4 … 32. ``MODEL.FPN`` has their channels
    and norm.

    Raises:
        DependencyError: if timm is not installed.
        ConfigError: if heads do not divide the channels, or the patch size is no power of two.
    """
    settings = cfg.MODEL.VIT
    _require_divisible("MODEL.VIT", "", settings.EMBED_DIM, settings.NUM_HEADS)
    with _timm_layers("ViT"):
        vit = PaddedViT(
            img_size=settings.IMG_SIZE,
            patch_size=settings.PATCH_SIZE,
            in_chans=input_shape.channels,
            embed_dim=settings.EMBED_DIM,
            depth=settings.DEPTH,
            num_heads=settings.NUM_HEADS,
            drop_path_rate=settings.DROP_PATH_RATE,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # as Detectron2's configs have it
            use_rel_pos=settings.USE_REL_POS,
            window_size=settings.WINDOW_SIZE,
            window_block_indexes=tuple(settings.WINDOW_BLOCKS),
        )
    return build_simple_pyramid(cfg, vit)


def build_mvit_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedMViT:
    """The MViTv2 that ``MODEL.MVIT`` describes; it ignores ``MODEL.BACKBONE.FREEZE_AT``.

    The levels are ``scale2`` … ``scale5`` of stride 4 … 32.

    Raises:
        DependencyError: if timm is not installed.
        ConfigError: if a level does not exist, there are not four stages, or heads do not divide the channels.
    """
    settings = cfg.MODEL.MVIT
    last = tuple(settings.LAST_BLOCKS)
    if len(last) != 4 or list(last) != sorted(set(last)):
        raise ConfigError(f"MODEL.MVIT.LAST_BLOCKS is {last}, but four rising numbers such as (0, 2, 7, 9) are needed")
    _require_divisible("MODEL.MVIT", "", settings.EMBED_DIM, settings.NUM_HEADS)
    levels = ("scale2", "scale3", "scale4", "scale5")
    with _timm_layers("MViT"):
        return PaddedMViT(
            in_chans=input_shape.channels,
            embed_dim=settings.EMBED_DIM,
            depth=last[-1] + 1,
            num_heads=settings.NUM_HEADS,
            last_block_indexes=last,
            drop_path_rate=settings.DROP_PATH_RATE,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # as Detectron2's configs have it
            out_features=_known("MODEL.MVIT.OUT_FEATURES", settings.OUT_FEATURES, levels),
        )


def build_mvit_fpn_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> PaddedFPN:
    """FPN over :func:`build_mvit_backbone`."""
    return build_fpn(cfg, build_mvit_backbone(cfg, input_shape))


def _known(key: str, names: tuple[str, ...], levels: tuple[str, ...]) -> tuple[str, ...]:
    """Check the names of levels, and sort them from fine to coarse."""
    unknown = [name for name in names if name not in levels]
    if unknown or not names:
        raise ConfigError(f"{key} is {tuple(names)}, but one or more of {', '.join(levels)} are needed")
    return tuple(level for level in levels if level in names)


def _require_divisible(group: str, where: str, channels: int, heads: int) -> None:
    if heads < 1 or channels % heads:
        raise ConfigError(
            f"{group}.NUM_HEADS is {heads}{where}, which does not divide {channels} channels: "
            f"change {group}.NUM_HEADS or {group}.EMBED_DIM"
        )


@contextmanager
def _timm_layers(family: str) -> Iterator[None]:
    """Let Detectron2 import DropPath and Mlp from timm: it uses their old address."""
    require_timm(f"Detectron2's {family}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*timm.models.layers.*", category=FutureWarning)
        yield


for _build in (
    build_regnet_backbone,
    build_regnet_fpn_backbone,
    build_swin_backbone,
    build_swin_fpn_backbone,
    build_vit_pyramid_backbone,
    build_mvit_backbone,
    build_mvit_fpn_backbone,
):
    BACKBONE_REGISTRY.register(_build)
