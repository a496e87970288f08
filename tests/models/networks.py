"""Small networks: every kind of backbone and every head, by name."""

import functools
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from lightning_seg.imports import import_user_code
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import Batch
from tests.conftest import REPOSITORY
from tests.models.samples import IGNORE

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"

NUM_CLASSES = 5

ODD = [(65, 97), (40, 97)]
"""Heights and widths of a batch's images; no stride divides what they are padded to by themselves."""

SMALL = {
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": [8],
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
}
"""For all networks here."""

RESNET18 = {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}

BOTTLENECKS = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
}
"""ResNet-50 and deeper with an eighth of the channels."""

REGNET = {"DEPTH": 7, "STEM_WIDTH": 8, "W_A": 16.0, "W_0": 8, "W_M": 2.2, "GROUP_WIDTH": 8, "SE_RATIO": 0.25}

SWIN = {"EMBED_DIM": 8, "DEPTHS": [2, 1, 1, 1], "NUM_HEADS": [1, 2, 2, 4], "DROP_PATH_RATE": 0.0}

VIT = {"EMBED_DIM": 32, "DEPTH": 2, "NUM_HEADS": 2, "WINDOW_BLOCKS": [0], "WINDOW_SIZE": 4, "DROP_PATH_RATE": 0.0}

MIT = {"EMBED_DIMS": [8, 16, 24, 32], "DEPTHS": [1, 1, 1, 1], "NUM_HEADS": [1, 2, 2, 4], "DROP_PATH_RATE": 0.0}

MVIT = {"EMBED_DIM": 8, "LAST_BLOCKS": [0, 1, 2, 3], "DROP_PATH_RATE": 0.0}


def resnet(out_features: list[str], builder: str = "build_resnet_backbone", **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.RESNETS.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.RESNETS.OUT_FEATURES": out_features, **keys}


def timm(name: str, builder: str = "build_timm_backbone", **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.TIMM.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.TIMM.NAME": name, "MODEL.FPN.IN_FEATURES": [], **keys}


def detectron2(builder: str, group: str, **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.{group}.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.FPN.IN_FEATURES": [], **keys}


RES = ["res2", "res3", "res4", "res5"]

STAGES = {"stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}

PYRAMID = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}

LATER: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "timm dinov2, patches of 14": (
        timm("vit_small_patch14_dinov2", OUT_INDICES=[0, 1, 2]),
        {"stage1": 14, "stage2": 14, "stage3": 14},
    ),
    "timm dinov3": (
        timm("vit_tiny_patch16_dinov3_qkvb", OUT_INDICES=[0, 1, 2]),
        {"stage1": 16, "stage2": 16, "stage3": 16},
    ),
    "timm hiera of SAM 2": (
        timm("sam2_hiera_tiny", OUT_INDICES=[0, 1, 2]),
        {"stage1": 4, "stage2": 8, "stage3": 16},
    ),
    "timm pvt v2": (timm("pvt_v2_b0"), dict(zip(STAGES, (4, 8, 16, 32), strict=False))),
}
"""Backbones of later years. They are wide, so that only what is slow tries heads on them."""

BACKBONES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    **LATER,
    "resnet18": ({**resnet(RES), **RESNET18}, dict(zip(RES, (4, 8, 16, 32), strict=True))),
    "resnet18, one level": ({**resnet(["res5"]), **RESNET18}, {"res5": 32}),
    "resnet50, dilated": (
        {**BOTTLENECKS, **resnet(RES, RES5_DILATION=2)},
        dict(zip(RES, (4, 8, 16, 16), strict=True)),
    ),
    "resnet50, stem of DeepLab": (
        {**BOTTLENECKS, **resnet(["res2", "res5"], "build_resnet_deeplab_backbone", RES4_DILATION=2, RES5_DILATION=4)},
        {"res2": 4, "res5": 8},
    ),
    "timm resnet": (timm("test_resnet"), STAGES),
    "timm resnet, dilated": (
        timm("test_resnet", OUTPUT_STRIDE=8, OUT_INDICES=[1, 4]),
        {"stage2": 4, "stage5": 8},
    ),
    "timm efficientnet": (timm("test_efficientnet"), STAGES),
    "timm convnext": (timm("test_convnext"), dict(zip(STAGES, (4, 8, 16, 32), strict=False))),
    "timm mambaout, NHWC": (timm("test_mambaout"), dict(zip(STAGES, (4, 8, 16, 32), strict=False))),
    "timm vit": (timm("test_vit"), {"stage4": 16, "stage5": 16, "stage6": 16}),
    "regnet": (detectron2("build_regnet_backbone", "REGNET", **REGNET), {"s1": 4, "s2": 8, "s3": 16, "s4": 32}),
    "swin": (detectron2("build_swin_backbone", "SWIN", **SWIN), {"p0": 4, "p1": 8, "p2": 16, "p3": 32}),
    "swin, patches of 3": (
        detectron2("build_swin_backbone", "SWIN", PATCH_SIZE=3, **SWIN),
        {"p0": 3, "p1": 6, "p2": 12, "p3": 24},
    ),
    "mvit": (
        detectron2("build_mvit_backbone", "MVIT", **MVIT),
        {"scale2": 4, "scale3": 8, "scale4": 16, "scale5": 32},
    ),
    "mit": (
        detectron2("build_mit_backbone", "MIT", **MIT),
        {"stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32},
    ),
    "mit FPN": (detectron2("build_mit_fpn_backbone", "MIT", **MIT), PYRAMID),
    "resnet18 FPN": ({**resnet(RES, "build_resnet_fpn_backbone"), **RESNET18}, {**PYRAMID, "p6": 64}),
    "resnet50 FPN of RetinaNet": (
        {
            **BOTTLENECKS,
            **resnet(RES[1:], "build_retinanet_resnet_fpn_backbone"),
            "MODEL.FPN.IN_FEATURES": RES[1:],
        },
        {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128},
    ),
    "timm resnet FPN": (timm("test_resnet", "build_timm_fpn_backbone"), PYRAMID),
    "timm vit pyramid": (timm("test_vit", "build_timm_fpn_backbone"), PYRAMID),
    "regnet FPN": (detectron2("build_regnet_fpn_backbone", "REGNET", **REGNET), PYRAMID),
    "swin FPN": (detectron2("build_swin_fpn_backbone", "SWIN", **SWIN), PYRAMID),
    "vit pyramid": (detectron2("build_vit_pyramid_backbone", "VIT", **VIT), PYRAMID),
    "mvit FPN": (detectron2("build_mvit_fpn_backbone", "MVIT", **MVIT), PYRAMID),
}
"""Overrides of a small variant, and the stride of each of its levels from fine to coarse."""

Choice = Callable[[list[str]], list[str]]

MASK2FORMER = {
    "MODEL.SEM_SEG_HEAD.NAME": "Mask2FormerHead",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 64,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NORM": "GN",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD": 16,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 8,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 16,
    "MODEL.MASK_FORMER.NHEADS": 2,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 16,
    "MODEL.MASK_FORMER.DEC_LAYERS": 4,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
}

EOMT = {
    "MODEL.META_ARCHITECTURE": "EoMT",
    "MODEL.EOMT.IMAGE_SIZE": 64,
    "MODEL.EOMT.HIDDEN_SIZE": 32,
    "MODEL.EOMT.NUM_HIDDEN_LAYERS": 4,
    "MODEL.EOMT.NUM_ATTENTION_HEADS": 2,
    "MODEL.EOMT.NUM_BLOCKS": 2,
    "MODEL.EOMT.NUM_QUERIES": 8,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
}
EOMT_DINOV3 = {**EOMT, "MODEL.EOMT.VIT": "DINOv3"}

HEADS: dict[str, tuple[Choice, dict[str, Any]]] = {
    "SemSegFPNHead": (lambda levels: levels, {}),
    "DeepLabV3Head": (lambda levels: levels[-1:], {}),
    "DeepLabV3PlusHead": (lambda levels: list(dict.fromkeys([levels[0], levels[-1]])), {}),
    "PointRendSemSegHead": (lambda levels: levels, {"MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead"}),
    "UNetHead": (lambda levels: levels, {"MODEL.SEM_SEG_HEAD.DECODER_CHANNELS": [16, 16, 16, 16]}),
    "UPerNetHead": (lambda levels: levels, {}),
    "SegFormerHead": (lambda levels: levels, {}),
    "DPTHead": (lambda levels: levels, {}),
    "Mask2FormerHead": (lambda levels: levels, MASK2FORMER),
    "TwoConvolutions": (lambda levels: levels[:1], {}),
}
"""Which levels a head reads of those that a backbone has, and settings of its own."""

FEW = [
    *(("regnet FPN", head) for head in HEADS),
    *((backbone, "SemSegFPNHead") for backbone in BACKBONES if backbone not in LATER),
]
"""Every head and every backbone, but those of later years."""


def overrides_of(backbone: str, head: str) -> dict[str, Any]:
    overrides, strides = BACKBONES[backbone]
    choose, own = HEADS[head]
    levels = choose(list(strides))
    finest = strides[levels[0]]
    return {
        **SMALL,
        **overrides,
        "MODEL.SEM_SEG_HEAD.NAME": head,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": levels,
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": max(finest // 2, 1) if head == "DPTHead" else finest,
        "MODEL.POINT_HEAD.IN_FEATURES": levels[:1],
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS": round(math.log2(finest)),
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 64,
        "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 64,
        "MODEL.POINT_HEAD.FC_DIM": 16,
        **own,
    }


def build_segmentor(overrides: dict[str, Any], seed: int = 0) -> Segmentor:
    import_user_code([str(REPOSITORY / "examples" / "custom_head" / "head.py")], "model.imports")
    torch.manual_seed(seed)
    return Segmentor(load_recipe(ZOO, overrides), num_classes=NUM_CLASSES, ignore_index=IGNORE)


@functools.cache
def _built(backbone: str, head: str) -> Segmentor:
    return build_segmentor(overrides_of(backbone, head))


def segmentor_of(backbone: str, head: str) -> Segmentor:
    """A new copy; the expensive guards at construction run once a pair."""
    return (
        deepcopy(_built(backbone, head)) if (backbone, head) in FEW else build_segmentor(overrides_of(backbone, head))
    )


def total_loss(segmentor: Segmentor, batch: Batch) -> torch.Tensor:
    torch.manual_seed(1)  # dropout, PointRend's points
    return torch.stack(list(segmentor.train().losses(batch).values())).sum()


TIMM, LEVELS = BACKBONES["timm resnet"]

SMALLEST = {**SMALL, **TIMM, "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["stage3"], "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 8}
