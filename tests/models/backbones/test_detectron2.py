"""Detectron2's own backbones: built as its classes are, frozen where they can be, refused with a reason."""

import sys
from typing import Any

import pytest
import torch
from detectron2.modeling.backbone import FPN, SwinTransformer
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem

from lightning_seg.errors import ConfigError, DependencyError
from tests.models.backbones.building import build
from tests.models.networks import (
    BOTTLENECKS,
    MVIT,
    ODD,
    REGNET,
    RESNET18,
    SMALL,
    SWIN,
    VIT,
    build_segmentor,
    detectron2,
    total_loss,
)
from tests.models.samples import make_batch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("depth", "settings"),
    [
        (18, RESNET18),
        (34, {**RESNET18, "MODEL.RESNETS.DEPTH": 34}),
        *((depth, {**BOTTLENECKS, "MODEL.RESNETS.DEPTH": depth}) for depth in (50, 101, 152)),
        (50, {**BOTTLENECKS, "MODEL.RESNETS.NUM_GROUPS": 32, "MODEL.RESNETS.WIDTH_PER_GROUP": 8}),
    ],
)
def test_resnets_of_every_depth_train(depth: int, settings: dict[str, Any]) -> None:
    segmentor = build_segmentor({**SMALL, **settings})
    stages = [len(stage) for stage in segmentor.network.backbone.bottom_up.stages]
    layers = 2 if depth < 50 else 3
    assert sum(stages) * layers + 2 == depth  # with the stem and the classifier that is not there
    total_loss(segmentor, make_batch(ODD)).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in segmentor.parameters())


def test_regnet_is_detectron2s() -> None:
    ours = build(detectron2("build_regnet_backbone", "REGNET", **REGNET)).eval()
    theirs = RegNet(
        stem_class=SimpleStem, stem_width=8, block_class=ResBottleneckBlock, depth=7, w_a=16.0, w_0=8, w_m=2.2,
        group_width=8, se_ratio=0.25, out_features=["s1", "s2", "s3", "s4"],
    )  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    assert_equal_levels(ours, theirs.eval())


def test_swin_under_fpn_is_detectron2s() -> None:
    ours = build(detectron2("build_swin_fpn_backbone", "SWIN", **SWIN)).eval()
    swin = SwinTransformer(embed_dim=8, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 4])
    theirs = FPN(swin, ["p0", "p1", "p2", "p3"], 16)
    theirs.load_state_dict(ours.state_dict())
    assert_equal_levels(ours, theirs.eval())


def assert_equal_levels(ours: Any, theirs: Any) -> None:
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert found.keys() == expected.keys()
    for level, feature in expected.items():
        assert torch.equal(found[level], feature)


def test_regnet_freezes_its_first_stages() -> None:
    settings = detectron2("build_regnet_backbone", "REGNET", **REGNET)
    backbone = build({**settings, "MODEL.BACKBONE.FREEZE_AT": 2})
    frozen = {name.split(".")[0] for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    trained = {name.split(".")[0] for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert (frozen, trained) == ({"stem", "s1"}, {"s2", "s3", "s4"})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            detectron2("build_regnet_backbone", "REGNET", OUT_FEATURES=["s5"], **REGNET),
            r"OUT_FEATURES is \('s5',\), but one or more of stem, s1, s2, s3, s4",
        ),
        (detectron2("build_swin_backbone", "SWIN", DEPTHS=[2, 2]), "DEPTHS has 2 stages and MODEL.SWIN.NUM_HEADS 4"),
        (detectron2("build_swin_backbone", "SWIN", EMBED_DIM=10), "NUM_HEADS is 3 in stage 0, .* 10 channels"),
        (detectron2("build_swin_backbone", "SWIN", OUT_FEATURES=[]), "one or more of p0, p1, p2, p3"),
        (detectron2("build_vit_pyramid_backbone", "VIT", NUM_HEADS=7), "NUM_HEADS is 7, .* 768 channels"),
        (detectron2("build_vit_pyramid_backbone", "VIT", **{**VIT, "PATCH_SIZE": 14}), "stride that is a power of two"),
        (detectron2("build_vit_pyramid_backbone", "VIT", NUM_HEADS=0), "NUM_HEADS is 0, .* 768 channels"),
        (detectron2("build_mvit_backbone", "MVIT", LAST_BLOCKS=[0, 1]), r"is \(0, 1\), but four rising numbers"),
        (detectron2("build_mvit_backbone", "MVIT", NUM_HEADS=5), "NUM_HEADS is 5, .* 96 channels"),
        (
            {**detectron2("build_mvit_fpn_backbone", "MVIT", **MVIT), "MODEL.FPN.IN_FEATURES": ["scale3", "scale5"]},
            "to levels that double",
        ),
    ],
)
def test_refuses(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(overrides)


def test_transformers_need_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DependencyError, match=r"Detectron2's MViT needs timm.*pip install 'lightning_seg\[timm\]'"):
        build(detectron2("build_mvit_backbone", "MVIT", **MVIT))
