"""Adds backbones that Detectron2 does not register: timm's models with feature levels, RegNet, Swin, ViT, MViT, MiT.

Reading a config only needs the keys that are declared here. The modules ``timm``, ``mit`` and ``detectron2`` are slow
to import; they register their builders when a network is built.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

TIMM_BUILDERS = ("build_timm_backbone", "build_timm_fpn_backbone")
"""Names for ``MODEL.BACKBONE.NAME`` that read ``MODEL.TIMM``."""


NEVER_FROZEN = (
    *TIMM_BUILDERS,
    "build_swin_backbone",
    "build_swin_fpn_backbone",
    "build_vit_pyramid_backbone",
    "build_mvit_backbone",
    "build_mvit_fpn_backbone",
    "build_mit_backbone",
    "build_mit_fpn_backbone",
)
"""Names for ``MODEL.BACKBONE.NAME`` that ignore ``MODEL.BACKBONE.FREEZE_AT``."""


def register_backbones() -> None:
    """Register these builders for ``MODEL.BACKBONE.NAME``; a second call does nothing."""
    from lightning_seg.models.backbones import detectron2, mit, timm  # noqa: F401


def add_backbones_config(cfg: "CfgNode") -> None:
    """Declare the keys that the builders of this package read, in place.

    Detectron2's ``MODEL.BACKBONE.FREEZE_AT`` works for RegNet. timm, Swin, ViT, MViT and MiT train every stage, and a
    config that sets the key for them is refused (except for its default of 2, which every config has). Its frozen
    BatchNorm would drop the activation inside timm's ``BatchNormAct2d``; transformers have no running statistics, and
    are published with every stage trained.
    """
    from detectron2.config import CfgNode

    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = ""  # such as "convnext_tiny.fb_in1k"; the tag decides the pixel statistics
    cfg.MODEL.TIMM.OUT_INDICES = ()  # positions from 0 in timm's feature_info; (): timm's default
    cfg.MODEL.TIMM.OUTPUT_STRIDE = 32  # 8 and 16 dilate instead, in most CNNs
    cfg.MODEL.TIMM.DROP_PATH_RATE = 0.0  # share of samples that skip a block in training

    cfg.MODEL.REGNET = CfgNode()  # the defaults are RegNetX-4GF of mask_rcnn_regnetx_4gf_dds_fpn_1x.py
    cfg.MODEL.REGNET.DEPTH = 23  # blocks in all stages together
    cfg.MODEL.REGNET.STEM_WIDTH = 32  # channels of the stem
    cfg.MODEL.REGNET.W_A = 38.65  # how many channels a block has more than the one before it, before rounding
    cfg.MODEL.REGNET.W_0 = 96  # channels of the first block, before rounding
    cfg.MODEL.REGNET.W_M = 2.43  # channels are rounded to W_0 times a power of this
    cfg.MODEL.REGNET.GROUP_WIDTH = 40  # channels of a group of the 3×3 convolutions
    cfg.MODEL.REGNET.SE_RATIO = 0.0  # 0.25 is RegNetY
    cfg.MODEL.REGNET.NORM = "BN"  # kind of norm, such as BN, SyncBN, GN or FrozenBN
    cfg.MODEL.REGNET.OUT_FEATURES = ("s1", "s2", "s3", "s4")  # strides 4 to 32; "stem" has 2

    cfg.MODEL.SWIN = CfgNode()  # the defaults are Swin-T, https://arxiv.org/abs/2103.14030
    cfg.MODEL.SWIN.PATCH_SIZE = 4  # side of a patch, in pixels
    cfg.MODEL.SWIN.EMBED_DIM = 96  # channels of the first stage; doubled in every next one
    cfg.MODEL.SWIN.DEPTHS = (2, 2, 6, 2)  # blocks of each stage
    cfg.MODEL.SWIN.NUM_HEADS = (3, 6, 12, 24)  # attention heads of each stage
    cfg.MODEL.SWIN.WINDOW_SIZE = 7  # side of an attention window, in patches
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.2  # share of samples that skip the last block in training; earlier ones skip less
    cfg.MODEL.SWIN.OUT_FEATURES = ("p0", "p1", "p2", "p3")  # Detectron2's names; the stride doubles from PATCH_SIZE

    cfg.MODEL.VIT = CfgNode()  # the defaults are ViTDet-B, https://arxiv.org/abs/2203.16527
    cfg.MODEL.VIT.IMG_SIZE = 1024  # sizes the tables of relative positions; other inputs interpolate them
    cfg.MODEL.VIT.PATCH_SIZE = 16  # side of a patch, in pixels
    cfg.MODEL.VIT.EMBED_DIM = 768  # channels of a patch
    cfg.MODEL.VIT.DEPTH = 12  # blocks
    cfg.MODEL.VIT.NUM_HEADS = 12  # attention heads
    cfg.MODEL.VIT.WINDOW_SIZE = 14  # side of the windows of WINDOW_BLOCKS, in patches
    cfg.MODEL.VIT.WINDOW_BLOCKS = (0, 1, 3, 4, 6, 7, 9, 10)  # the others attend to the whole image
    cfg.MODEL.VIT.USE_REL_POS = True  # whether attention adds learnt values of relative positions
    cfg.MODEL.VIT.DROP_PATH_RATE = 0.1  # as in MODEL.SWIN

    cfg.MODEL.MVIT = CfgNode()  # the defaults are MViTv2-T, https://arxiv.org/abs/2112.01526
    cfg.MODEL.MVIT.EMBED_DIM = 96  # channels of the first stage
    cfg.MODEL.MVIT.NUM_HEADS = 1  # of the first stage; doubled, as EMBED_DIM is, in every next one
    cfg.MODEL.MVIT.LAST_BLOCKS = (0, 2, 7, 9)  # the last block of each of the four stages
    cfg.MODEL.MVIT.DROP_PATH_RATE = 0.2  # as in MODEL.SWIN
    cfg.MODEL.MVIT.OUT_FEATURES = ("scale2", "scale3", "scale4", "scale5")  # strides 4 to 32

    cfg.MODEL.MIT = CfgNode()  # the defaults are MiT-B0, https://arxiv.org/abs/2105.15203
    cfg.MODEL.MIT.EMBED_DIMS = (32, 64, 160, 256)  # (64, 128, 320, 512) from B1 on
    cfg.MODEL.MIT.DEPTHS = (2, 2, 2, 2)  # blocks of each stage
    cfg.MODEL.MIT.NUM_HEADS = (1, 2, 5, 8)  # attention heads of each stage
    cfg.MODEL.MIT.DROP_PATH_RATE = 0.1  # as in MODEL.SWIN
    cfg.MODEL.MIT.OUT_FEATURES = ("stage1", "stage2", "stage3", "stage4")  # strides 4 to 32
