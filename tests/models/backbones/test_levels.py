"""Every backbone gives its levels where it says, at any size, and gradients reach all of it."""

import math

import pytest
import torch
from detectron2.structures import ImageList

from tests.models.backbones.building import build
from tests.models.networks import BACKBONES, PYRAMID, REGNET, STAGES, SWIN, detectron2, timm

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = {
    **BACKBONES,
    "timm resnet10t": (timm("resnet10t"), STAGES),
    "timm efficientnet_lite0": (timm("tf_efficientnet_lite0"), STAGES),
    "timm mobilenetv3_small_050": (timm("mobilenetv3_small_050"), STAGES),
    "timm mobilenetv3_small_050 FPN": (timm("mobilenetv3_small_050", "build_timm_fpn_backbone"), PYRAMID),
    "timm convnext FPN": (timm("test_convnext", "build_timm_fpn_backbone"), PYRAMID),
    "timm mambaout FPN": (timm("test_mambaout", "build_timm_fpn_backbone"), PYRAMID),
    "timm swin, NHWC": (
        timm("swin_tiny_patch4_window7_224", OUT_INDICES=[0, 1]),
        {"stage1": 4, "stage2": 8},
    ),
    "timm dinov2 with registers": (timm("vit_small_patch14_reg4_dinov2", OUT_INDICES=[0]), {"stage1": 14}),
    "timm dinov3, small": (timm("vit_small_patch16_dinov3", OUT_INDICES=[0]), {"stage1": 16}),
    "timm dinov3 convnext": (
        timm("convnext_tiny.dinov3_lvd1689m", OUT_INDICES=[0, 1]),
        {"stage1": 4, "stage2": 8},
    ),
    "timm dinov3 pyramid": (timm("vit_tiny_patch16_dinov3_qkvb", "build_timm_fpn_backbone", OUT_INDICES=[0]), PYRAMID),
    "timm vit, from the end": (
        timm("vit_tiny_patch16_224", OUT_INDICES=[-9, 1]),
        {"stage2": 16, "stage4": 16},
    ),
    "regnet, from the stem": (
        detectron2("build_regnet_backbone", "REGNET", OUT_FEATURES=["s4", "stem"], **REGNET),
        {"stem": 2, "s4": 32},
    ),
    "swin, patches of 2": (
        detectron2("build_swin_backbone", "SWIN", PATCH_SIZE=2, **SWIN),
        {"p0": 2, "p1": 4, "p2": 8, "p3": 16},
    ),
}
"""Those of the contract, and more whose levels are a matter of their own."""


@pytest.mark.parametrize("name", ALL)
def test_levels_are_where_they_are_promised(name: str) -> None:
    overrides, strides = ALL[name]
    backbone = build(overrides).train()
    promised = backbone.output_shape()
    assert sorted((shape.stride, level) for level, shape in promised.items()) == sorted(
        (stride, level) for level, stride in strides.items()
    )
    padding = {"padding_constraints": backbone.padding_constraints}
    images = [torch.randn(3, 65, 97), torch.randn(3, 40, 97)]
    padded = ImageList.from_tensors(images, backbone.size_divisibility, **padding).tensor
    features = backbone(padded)
    shapes = {level: tuple(feature.shape[1:]) for level, feature in features.items()}
    assert shapes == {
        level: (shape.channels, *(math.ceil(side / shape.stride) for side in padded.shape[-2:]))
        for level, shape in promised.items()
    }
    assert all(feature.isfinite().all() for feature in features.values())

    torch.stack([(feature * torch.randn_like(feature)).sum() for feature in features.values()]).sum().backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("resnet")])
def test_pads_to_the_coarsest_stride(name: str) -> None:
    """Detectron2's own ResNets do not; there the segmentor pads for heads that need it. SAM 2's windows need 32."""
    overrides, strides = ALL[name]
    assert build(overrides).size_divisibility == (32 if "SAM 2" in name else max(strides.values()))
