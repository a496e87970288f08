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
    # SegFormerHead and DPTHead: share of values that training drops before the last convolution.
    head.DROPOUT = 0.1
    # DPTHead: channels of the levels made of a plain ViT's four, such as (96, 192, 384, 768); (): none are made.
    head.REASSEMBLE_DIMS = ()
    _add_mask2former_config(cfg)


def _add_mask2former_config(cfg: "CfgNode") -> None:
    """Keys of Mask2FormerHead: names of Mask2Former's own project, values of its published semantic models."""
    from detectron2.config import CfgNode

    head = cfg.MODEL.SEM_SEG_HEAD
    # Channels of the features that masks are made of.
    head.MASK_DIM = 256
    # Layers of deformable attention in the pixel decoder.
    head.TRANSFORMER_ENC_LAYERS = 6
    # Hidden channels of their feed-forward networks. Not a key there, but the same number.
    head.TRANSFORMER_ENC_DIM_FEEDFORWARD = 1024
    # Empty: the three coarsest of IN_FEATURES.
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ()
    masks = cfg.MODEL.MASK_FORMER = CfgNode()
    # Both sides of the network's input are padded to a multiple of this (32 as published); -1: as the backbone needs.
    masks.SIZE_DIVISIBILITY = -1
    # Queries: the classes and masks that an image gets at most.
    masks.NUM_OBJECT_QUERIES = 100
    # Channels of a query; a multiple of NHEADS.
    masks.HIDDEN_DIM = 256
    # Heads of each attention.
    masks.NHEADS = 8
    # Hidden channels of the transformer decoder's feed-forward networks.
    masks.DIM_FEEDFORWARD = 2048
    # One more than the layers of the transformer decoder: the queries before the first layer count, too.
    masks.DEC_LAYERS = 10
    # Whether norms stand before a layer, not after it.
    masks.PRE_NORM = False
    # Whether levels are projected even where their channels fit the queries'.
    masks.ENFORCE_INPUT_PROJ = False
    # Of the pixel decoder; the transformer decoder has none.
    masks.DROPOUT = 0.0
    # Whether the queries before and after each layer get losses, not the last ones alone.
    masks.DEEP_SUPERVISION = True
    # Factor of the cross-entropy of classes, in losses and in the costs of a match.
    masks.CLASS_WEIGHT = 2.0
    # Likewise, of the binary cross-entropy of masks.
    masks.MASK_WEIGHT = 5.0
    # Likewise, of the Dice loss of masks.
    masks.DICE_WEIGHT = 5.0
    # Weight of queries without a mask in the cross-entropy of classes.
    masks.NO_OBJECT_WEIGHT = 0.1
    # Points at which the losses compare a mask.
    masks.TRAIN_NUM_POINTS = 112 * 112
    # How many times TRAIN_NUM_POINTS are drawn, to seek the uncertain ones among them.
    masks.OVERSAMPLE_RATIO = 3.0
    # Share of the points that are uncertain ones, 0 to 1; the others are random.
    masks.IMPORTANCE_SAMPLE_RATIO = 0.75


def register_heads() -> None:
    """Register these heads for ``MODEL.SEM_SEG_HEAD.NAME``; a second call does nothing."""
    from lightning_seg.models.heads import dpt, mask2former, segformer, unet, upernet  # noqa: F401
