"""A backbone as its builder makes it."""

from typing import Any

import torch

from lightning_seg.models.backbones import register_backbones
from lightning_seg.models.config import load_config
from tests.models.networks import SMALL, ZOO


def build(overrides: dict[str, Any]) -> Any:
    from detectron2.modeling import build_backbone
    from detectron2.projects import deeplab  # noqa: F401

    register_backbones()
    torch.manual_seed(0)
    return build_backbone(load_config(ZOO, {**SMALL, **overrides}))
