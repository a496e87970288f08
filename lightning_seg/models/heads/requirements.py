"""Checks a config for Detectron2's own heads and those of its projects, before they are built.

The heads themselves would fail without naming the setting, silently drop a misspelt level, or give wrong logits.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects.point_rend.point_head import POINT_HEAD_REGISTRY

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads.head import check_common_stride, check_norm
from lightning_seg.models.registry import require_registered

if TYPE_CHECKING:
    from detectron2.config import CfgNode

Levels = Mapping[str, ShapeSpec]


def refuse_head(cfg: "CfgNode", levels: Levels) -> None:
    """Raise a ConfigError if the head that ``cfg`` describes does not exist or cannot work on these levels.

    Args:
        cfg: a full config.
        levels: the backbone's levels by name.
    """
    settings = cfg.MODEL.SEM_SEG_HEAD
    require_registered("MODEL.SEM_SEG_HEAD.NAME", settings.NAME, SEM_SEG_HEADS_REGISTRY)
    _require_levels("MODEL.SEM_SEG_HEAD.IN_FEATURES", settings.IN_FEATURES, levels)
    chosen = {name: levels[name] for name in settings.IN_FEATURES}
    name = settings.NAME
    if name == "PointRendSemSegHead":
        _refuse_point_rend(cfg, levels)
        name = cfg.MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME
    if name == "SemSegFPNHead":
        _refuse_sem_seg_fpn(settings, chosen)
    elif name in ("DeepLabV3Head", "DeepLabV3PlusHead"):
        _refuse_deeplab(cfg, name, chosen)


def _require_levels(key: str, names: list[str], levels: Levels) -> None:
    missing = [name for name in names if name not in levels]
    if missing or not names:
        fault = f"names {', '.join(missing)}" if missing else "is empty"
        given = ", ".join(f"{name} (stride {shape.stride})" for name, shape in levels.items())
        raise ConfigError(
            f"{key} {fault}, but the backbone gives {given}: choose among these, or let the backbone give more "
            "(MODEL.RESNETS.OUT_FEATURES for a ResNet)"
        )


def _refuse_sem_seg_fpn(settings: Any, chosen: Levels) -> None:
    stride = settings.COMMON_STRIDE
    doubles = {stride * 2**times for times in range(16)}
    for name, shape in chosen.items():
        if shape.stride not in doubles:
            finest = min(shape.stride for shape in chosen.values())
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE is {stride}, but SemSegFPNHead doubles the size of each of "
                f"IN_FEATURES until it has that stride, which {name} of stride {shape.stride} never has: set "
                f"COMMON_STRIDE to {finest} or choose other IN_FEATURES"
            )
    check_norm(settings.NORM, [settings.CONVS_DIM], "CONVS_DIM")


def _refuse_deeplab(cfg: "CfgNode", head: str, chosen: Levels) -> None:
    settings, names = cfg.MODEL.SEM_SEG_HEAD, ", ".join(chosen)
    if cfg.INPUT.CROP.ENABLED and cfg.INPUT.CROP.TYPE != "absolute":
        raise ConfigError(
            f"INPUT.CROP.TYPE is {cfg.INPUT.CROP.TYPE!r}, but {head} takes its pooling window from an 'absolute' "
            "INPUT.CROP.SIZE: set the type, or INPUT.CROP.ENABLED to False to pool over the whole image"
        )
    if head == "DeepLabV3Head":
        if len(chosen) != 1:
            raise ConfigError(f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {names}, but DeepLabV3Head works on one level")
        if settings.CONVS_DIM != settings.ASPP_CHANNELS:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.CONVS_DIM is {settings.CONVS_DIM} and ASPP_CHANNELS {settings.ASPP_CHANNELS}, but "
                "DeepLabV3Head has nothing between the two: give both one value"
            )
    elif len(settings.PROJECT_CHANNELS) != len(chosen) - 1:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS has {len(settings.PROJECT_CHANNELS)} numbers and IN_FEATURES is "
            f"{names}, but DeepLabV3PlusHead needs a number for each level except the coarsest: mend either"
        )
    finest = min(chosen, key=lambda name: chosen[name].stride)
    check_common_stride(head, settings.COMMON_STRIDE, finest, chosen[finest].stride)
    check_norm(settings.NORM, [settings.ASPP_CHANNELS], "ASPP_CHANNELS")
    if head == "DeepLabV3PlusHead":
        check_norm(settings.NORM, settings.PROJECT_CHANNELS, "PROJECT_CHANNELS")
        check_norm(settings.NORM, [settings.CONVS_DIM], "CONVS_DIM")


def _refuse_point_rend(cfg: "CfgNode", levels: Levels) -> None:
    point, stride = cfg.MODEL.POINT_HEAD, cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE
    coarse = point.COARSE_SEM_SEG_HEAD_NAME
    require_registered("MODEL.POINT_HEAD.NAME", point.NAME, POINT_HEAD_REGISTRY)
    require_registered("MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME", coarse, SEM_SEG_HEADS_REGISTRY)
    if not hasattr(SEM_SEG_HEADS_REGISTRY.get(coarse), "layers"):
        raise ConfigError(
            f"MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME is {coarse}, which has no layers(features) for PointRend to "
            "refine: choose SemSegFPNHead, DeepLabV3PlusHead, UNetHead, UPerNetHead or SegFormerHead"
        )
    _require_levels("MODEL.POINT_HEAD.IN_FEATURES", point.IN_FEATURES, levels)
    if len(point.IN_FEATURES) > 1:
        raise ConfigError(
            f"MODEL.POINT_HEAD.IN_FEATURES is {', '.join(point.IN_FEATURES)}, but in evaluation Detectron2's PointRend "
            "reads one level: name the finest"
        )
    if stride % 2**point.SUBDIVISION_STEPS:
        fitting = (stride & -stride).bit_length() - 1
        raise ConfigError(
            f"MODEL.POINT_HEAD.SUBDIVISION_STEPS is {point.SUBDIVISION_STEPS} and MODEL.SEM_SEG_HEAD.COMMON_STRIDE "
            f"{stride}, but 2 ** SUBDIVISION_STEPS must divide COMMON_STRIDE for logits to stand for whole pixels: set "
            f"SUBDIVISION_STEPS to {fitting}"
            + ("" if 2**fitting == stride else ", or choose a backbone whose strides are powers of two")
        )
