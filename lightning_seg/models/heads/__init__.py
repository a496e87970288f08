"""Adds segmentation heads to Detectron2's registry, under the names of their classes.

This file declares the keys of the config, and imports no head before :func:`register_heads`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_heads_config(cfg: "CfgNode") -> None:
    """Declare, in place, the keys that these heads read in addition to Detectron2's ``MODEL.SEM_SEG_HEAD``."""
    head = cfg.MODEL.SEM_SEG_HEAD
    # UNetHead: channels of each step, deepest first. The first len(IN_FEATURES) - 1 are used.
    head.DECODER_CHANNELS = (256, 128, 64, 32)
    # UPerNetHead: the pooling pyramid averages the deepest level over grids of 1×1, 2×2 … cells.
    head.POOL_SCALES = (1, 2, 3, 6)


def register_heads() -> None:
    """Register these heads for ``MODEL.SEM_SEG_HEAD.NAME``; a second call does nothing."""
    from lightning_seg.models.heads import unet, upernet  # noqa: F401
