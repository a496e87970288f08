"""What every backbone promises: levels where it says, gradients everywhere, copies, mixed precision, training."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detectron2.structures import ImageList

from lightning_seg.models.config import load_config
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.models.test_segmentor import IGNORE, make_batch

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"
SMALL = {
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
}


def timm(name: str, builder: str = "build_timm_backbone", **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.TIMM.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.TIMM.NAME": name, "MODEL.FPN.IN_FEATURES": [], **keys}


def detectron2(builder: str, group: str, **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.{group}.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.FPN.IN_FEATURES": [], **keys}


REGNET = {"DEPTH": 7, "STEM_WIDTH": 8, "W_A": 16.0, "W_0": 8, "W_M": 2.2, "GROUP_WIDTH": 8, "SE_RATIO": 0.25}
SWIN = {"EMBED_DIM": 8, "DEPTHS": [2, 1, 1, 1], "NUM_HEADS": [1, 2, 2, 4], "DROP_PATH_RATE": 0.0}
VIT = {"EMBED_DIM": 32, "DEPTH": 2, "NUM_HEADS": 2, "WINDOW_BLOCKS": [0], "WINDOW_SIZE": 4, "DROP_PATH_RATE": 0.0}
MVIT = {"EMBED_DIM": 8, "LAST_BLOCKS": [0, 1, 2, 3], "DROP_PATH_RATE": 0.0}

BARE = {
    "resnet10t": (timm("resnet10t"), [2, 4, 8, 16, 32]),
    "resnet10t, dilated": (timm("resnet10t", OUTPUT_STRIDE=8, OUT_INDICES=[1, 4]), [4, 8]),
    "efficientnet_lite0": (timm("tf_efficientnet_lite0"), [2, 4, 8, 16, 32]),
    "mobilenetv3_small_050": (timm("mobilenetv3_small_050"), [2, 4, 8, 16, 32]),
    "convnext": (timm("test_convnext"), [4, 8, 16, 32]),
    "mambaout, NHWC": (timm("test_mambaout"), [4, 8, 16, 32]),
    "timm's swin, NHWC": (timm("swin_tiny_patch4_window7_224", OUT_INDICES=[0, 1]), [4, 8]),
    "timm's vit, all blocks by default": (timm("test_vit"), [16, 16, 16]),
    "timm's vit, from the end": (timm("vit_tiny_patch16_224", OUT_INDICES=[-9, 1]), [16, 16]),
    "regnet": (detectron2("build_regnet_backbone", "REGNET", **REGNET), [4, 8, 16, 32]),
    "regnet, from the stem": (
        detectron2("build_regnet_backbone", "REGNET", OUT_FEATURES=["s4", "stem"], **REGNET),
        [2, 32],
    ),
    "swin": (detectron2("build_swin_backbone", "SWIN", **SWIN), [4, 8, 16, 32]),
    "swin, patches of 2": (detectron2("build_swin_backbone", "SWIN", PATCH_SIZE=2, **SWIN), [2, 4, 8, 16]),
    "mvit": (detectron2("build_mvit_backbone", "MVIT", **MVIT), [4, 8, 16, 32]),
}
FPN = {
    "resnet18 of Detectron2": {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.NORM": "BN",
    },
    "resnet10t": timm("resnet10t", "build_timm_fpn_backbone"),
    "mobilenetv3_small_050": timm("mobilenetv3_small_050", "build_timm_fpn_backbone"),
    "convnext": timm("test_convnext", "build_timm_fpn_backbone"),
    "mambaout": timm("test_mambaout", "build_timm_fpn_backbone"),
    "timm's vit": timm("test_vit", "build_timm_fpn_backbone"),
    "regnet": detectron2("build_regnet_fpn_backbone", "REGNET", **REGNET),
    "swin": detectron2("build_swin_fpn_backbone", "SWIN", **SWIN),
    "vit": detectron2("build_vit_pyramid_backbone", "VIT", **VIT),
    "mvit": detectron2("build_mvit_fpn_backbone", "MVIT", **MVIT),
}
ALL = {**{f"{name} (bare)": overrides for name, (overrides, _) in BARE.items()}, **FPN}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks as small as these lose more to threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(overrides: dict[str, Any]) -> Any:
    from detectron2.modeling import build_backbone

    from lightning_seg.models.backbones import detectron2, timm  # noqa: F401

    torch.manual_seed(0)
    return build_backbone(load_config(ZOO, {**SMALL, **overrides}))


def odd_batch(backbone: Any) -> torch.Tensor:
    """Two images of 65×97 and 40×97, padded as Detectron2 pads for this backbone."""
    images = [torch.randn(3, 65, 97), torch.randn(3, 40, 97)]
    padding = {"padding_constraints": backbone.padding_constraints}
    tensor: torch.Tensor = ImageList.from_tensors(images, backbone.size_divisibility, **padding).tensor
    return tensor


@pytest.mark.parametrize("name", BARE)
def test_strides_are_as_published(name: str) -> None:
    overrides, strides = BARE[name]
    backbone = build(overrides)
    assert [shape.stride for shape in backbone.output_shape().values()] == strides
    assert backbone.size_divisibility == max(strides)


@pytest.mark.parametrize("name", FPN)
def test_pyramids_have_detectron2s_names(name: str) -> None:
    backbone = build(FPN[name])
    shapes = {level: (shape.channels, shape.stride) for level, shape in backbone.output_shape().items()}
    expected = {"p2": (16, 4), "p3": (16, 8), "p4": (16, 16), "p5": (16, 32)}
    assert {level: shapes[level] for level in expected} == expected
    assert backbone.size_divisibility == 32


@pytest.mark.parametrize("name", ALL)
def test_levels_are_where_they_are_promised(name: str) -> None:
    backbone = build(ALL[name]).train()
    images = odd_batch(backbone)
    features = backbone(images)
    shapes = {level: tuple(feature.shape[1:]) for level, feature in features.items()}
    height, width = images.shape[-2:]
    assert shapes == {
        level: (shape.channels, math.ceil(height / shape.stride), math.ceil(width / shape.stride))
        for level, shape in backbone.output_shape().items()
    }
    assert all(feature.isfinite().all() for feature in features.values())

    torch.stack([(feature * torch.randn_like(feature)).sum() for feature in features.values()]).sum().backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ALL)
def test_copies_and_states_give_the_same_levels(name: str) -> None:
    backbone = build(ALL[name]).eval()
    twin = copy.deepcopy(backbone)
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other.load_state_dict(backbone.state_dict())
        images = odd_batch(backbone)
        expected, copied, loaded = backbone(images), twin(images), other(images)
    for level, feature in expected.items():
        assert torch.equal(copied[level], feature)
        assert torch.equal(loaded[level], feature)


@pytest.mark.parametrize("name", ALL)
def test_runs_in_mixed_precision(name: str) -> None:
    backbone = build(ALL[name]).eval()
    images = odd_batch(backbone)
    with torch.no_grad():
        expected = backbone(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = backbone(images)
    for level, feature in expected.items():
        assert (found[level].float() - feature).norm() < 0.1 * feature.norm()


@pytest.mark.parametrize("name", FPN)
def test_trains_through_the_segmentor(name: str) -> None:
    torch.manual_seed(0)
    segmentor = Segmentor(load_recipe(ZOO, {**SMALL, **FPN[name]}), num_classes=5, ignore_index=IGNORE).train()
    batch = make_batch([(65, 97), (40, 97)])
    optimizer = torch.optim.SGD(segmentor.parameters(), lr=0.01)
    loss = torch.stack(list(segmentor.losses(batch).values())).sum()
    loss.backward()
    assert [key for key, parameter in segmentor.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    output = segmentor.eval().evaluate(batch)
    assert output.logits.shape == (2, 5, 24, 32)
    assert output.input_sizes == [(65, 97), (40, 97)]
    assert output.losses["loss_sem_seg"].isfinite()
