"""Builds Detectron2's feature pyramids over a backbone, with the padding that they need."""

import itertools
from typing import TYPE_CHECKING

from detectron2.modeling.backbone import FPN, Backbone, SimpleFeaturePyramid

from lightning_seg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

FINEST = 4
"""The stride in pixels of a pyramid's finest level, unless the config names others; heads upsample from there."""


class PaddedFPN(FPN):  # type: ignore[misc]  # Detectron2 has no types
    """Detectron2's FPN with the padding of the whole backbone; some need more than their coarsest used level."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of a batch are padded to a multiple of this, in pixels."""
        return int(max(self._size_divisibility, self.bottom_up.size_divisibility))


class PaddedSimpleFeaturePyramid(SimpleFeaturePyramid):  # type: ignore[misc]  # likewise
    """Detectron2's pyramid over one level, with padding: Detectron2 misspells ``size_divisiblity``, and never pads."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of a batch are padded to a multiple of this, in pixels."""
        return int(max(self._size_divisibility, self.net.size_divisibility))

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The divisibility is the only constraint."""
        return {}


def build_fpn(cfg: "CfgNode", bottom_up: Backbone) -> PaddedFPN:
    """Build the FPN that ``MODEL.FPN`` describes over a backbone, with levels ``p2``, ``p3`` … of stride 4, 8 …

    ``MODEL.FPN.IN_FEATURES`` names the levels of the backbone; an empty list takes all from stride 4 on. There is no
    ``p6``, which only detection needs.

    Raises:
        ConfigError: if a named level does not exist, or the strides are not consecutive powers of two.
    """
    names = _levels(cfg, bottom_up)
    shapes = bottom_up.output_shape()
    strides = [shapes[name].stride for name in names]
    doubling = all(coarse == 2 * fine for fine, coarse in itertools.pairwise(strides))
    if not (doubling and _is_power(strides[0])):
        raise ConfigError(
            f"FPN adds each level to the next finer one at twice its size, so it needs strides such as 4, 8, 16, 32, "
            f"but {_list(bottom_up)}: set MODEL.FPN.IN_FEATURES to levels that double, or use the backbone without FPN"
        )
    return PaddedFPN(
        bottom_up=bottom_up,
        in_features=names,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_simple_pyramid(cfg: "CfgNode", net: Backbone) -> PaddedSimpleFeaturePyramid:
    """Build the SimpleFeaturePyramid that ``MODEL.FPN`` describes over one level; its levels are named as FPN's.

    They have 1/4, 1/2, 1 and 2 times the stride of the level they come from; levels finer than 4 pixels are left out.
    That level is the coarsest that ``MODEL.FPN.IN_FEATURES`` names; an empty list takes the last. The pyramid needs a
    norm, so ``MODEL.FPN.NORM ""`` is LN, as in https://arxiv.org/abs/2203.16527.

    Raises:
        ConfigError: if a named level does not exist, or the stride is no power of two.
    """
    name = _levels(cfg, net)[-1]
    stride = net.output_shape()[name].stride
    if not _is_power(stride):
        raise ConfigError(
            f"a feature pyramid needs a stride that is a power of two, but {_list(net)}: use a model with patches of "
            "8 or 16 pixels, or the backbone without FPN"
        )
    return PaddedSimpleFeaturePyramid(
        net=net,
        in_feature=name,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        scale_factors=[scale for scale in (4.0, 2.0, 1.0, 0.5) if stride / scale >= FINEST],
        norm=cfg.MODEL.FPN.NORM or "LN",
    )


def _levels(cfg: "CfgNode", backbone: Backbone) -> list[str]:
    """The levels that ``MODEL.FPN.IN_FEATURES`` names, from fine to coarse."""
    shapes = backbone.output_shape()
    names = list(cfg.MODEL.FPN.IN_FEATURES)
    if unknown := [name for name in names if name not in shapes]:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES names {', '.join(unknown)}, but {_list(backbone)}: set it to some of these, or to "
            f"[] for all from stride {FINEST} on"
        )
    names = names or [name for name, shape in shapes.items() if shape.stride >= FINEST]
    if not names:
        raise ConfigError(f"a feature pyramid needs a level of stride {FINEST} or more, but {_list(backbone)}")
    return names


def _is_power(stride: int) -> bool:
    return stride & (stride - 1) == 0


def _list(backbone: Backbone) -> str:
    levels = ", ".join(f"{name} (stride {shape.stride})" for name, shape in backbone.output_shape().items())
    return f"the backbone has {levels}"
