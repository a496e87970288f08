"""Refuses settings that Detectron2's own ResNets cannot build, in terms of the config."""

from typing import TYPE_CHECKING

from lightning_seg.errors import ConfigError
from lightning_seg.models.normalisation import require_norm

if TYPE_CHECKING:
    from detectron2.config import CfgNode

DEPTHS = {
    "build_resnet_backbone": (18, 34, 50, 101, 152),
    "build_resnet_fpn_backbone": (18, 34, 50, 101, 152),
    "build_retinanet_resnet_fpn_backbone": (18, 34, 50, 101, 152),
    "build_resnet_deeplab_backbone": (50, 101, 152),
}
"""Detectron2's builders that read ``MODEL.RESNETS``, and the depths that each knows."""


def refuse_resnet(cfg: "CfgNode") -> None:
    """Raise a ConfigError if the builder would refuse ``MODEL.RESNETS``; its own error does not name the setting."""
    builder, settings = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS
    if builder not in DEPTHS:
        return
    if settings.DEPTH not in DEPTHS[builder]:
        known = ", ".join(map(str, DEPTHS[builder]))
        raise ConfigError(f"MODEL.RESNETS.DEPTH is {settings.DEPTH}, but {builder} knows {known}")
    if settings.DEPTH in (18, 34) and settings.RES2_OUT_CHANNELS != 64:
        raise ConfigError(
            f"MODEL.RESNETS.DEPTH {settings.DEPTH} needs MODEL.RESNETS.RES2_OUT_CHANNELS 64 "
            f"(it is {settings.RES2_OUT_CHANNELS}): add --model.overrides.MODEL.RESNETS.RES2_OUT_CHANNELS 64"
        )
    if any(settings.DEFORM_ON_PER_STAGE):
        raise ConfigError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE asks for deformable convolutions, which need Detectron2's compiled "
            "CUDA code; lightning_seg runs without it: set it to [False, False, False, False]"
        )
    require_norm("MODEL.RESNETS.NORM", settings.NORM)
    if not builder.endswith("fpn_backbone"):
        return
    require_norm("MODEL.FPN.NORM", cfg.MODEL.FPN.NORM)
    missing = [name for name in cfg.MODEL.FPN.IN_FEATURES if name not in settings.OUT_FEATURES]
    if missing:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES names {', '.join(missing)}, but MODEL.RESNETS.OUT_FEATURES has "
            f"{', '.join(settings.OUT_FEATURES)}: every level of the pyramid must be among these"
        )
