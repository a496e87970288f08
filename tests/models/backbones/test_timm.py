"""timm's models behind Detectron2's interface: equal to timm, normalised as timm does, refused with a reason."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.modeling import BACKBONE_REGISTRY
from safetensors.torch import load_file

from lightning_seg.errors import ConfigError, DependencyError
from lightning_seg.models.backbones import NEVER_FROZEN, register_backbones
from lightning_seg.models.backbones.timm_names import timm_pixels
from lightning_seg.models.config import load_config
from tests.models.backbones.building import build
from tests.models.networks import ZOO
from tests.models.networks import timm as settings

LITE0 = "tf_efficientnet_lite0.in1k"


def test_levels_equal_timms_with_trained_weights(shared: Path) -> None:
    weights = shared / "weights" / "tf_efficientnet_lite0.safetensors"
    overlay = {"file": str(weights)}
    reference = timm.create_model(LITE0, pretrained=True, features_only=True, pretrained_cfg_overlay=overlay)
    backbone = build(settings(LITE0))
    backbone.network.load_state_dict(reference.state_dict())
    stem = load_file(weights)["conv_stem.weight"]
    assert torch.equal(backbone.network.conv_stem.weight, stem)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = reference.eval()(images), backbone.eval()(images)
    for theirs, ours in zip(expected, found.values(), strict=True):
        assert torch.equal(theirs, ours)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_mambaout"])
def test_levels_of_nhwc_models_equal_timms(name: str) -> None:
    backbone = build(settings(name, OUT_INDICES=[0, 1])).eval()
    images = torch.randn(1, 3, 224, 224)
    reference = timm.create_model(name, features_only=True, out_indices=(0, 1)).eval()
    reference.load_state_dict(backbone.network.state_dict(), strict=False)
    with torch.no_grad():
        expected, found = reference(images), backbone(images)
    for theirs, ours in zip(expected, found.values(), strict=True):
        torch.testing.assert_close(theirs, ours.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("vit_small_patch14_dinov2", (56, 70)), ("vit_tiny_patch16_dinov3_qkvb", (48, 80))]
)
def test_positions_of_a_vit_follow_the_crop(name: str, size: tuple[int, int]) -> None:
    """At any size, the levels are those of timm's model that was made for that size and loaded the same weights."""
    backbone = build(settings(name, OUT_INDICES=[0, 1])).eval()
    made = timm.create_model(name, img_size=size, features_only=True, out_indices=(0, 1)).eval()
    weights = made.state_dict()
    for key, tensor in backbone.network.state_dict().items():
        grid = [side // backbone.size_divisibility for side in size]
        fitting = timm.layers.resample_abs_pos_embed(tensor, grid) if key == "model.pos_embed" else tensor
        weights[key].copy_(fitting)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, found = made(images), backbone(images)
    for theirs, ours in zip(expected, found.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pads_further_where_the_coarsest_level_is_not_enough() -> None:
    """SAM 2's Hiera adds positions by windows of 32 pixels, whatever its coarsest level."""
    backbone = build(settings("sam2_hiera_tiny", OUT_INDICES=[0])).eval()
    assert backbone.size_divisibility == 32
    assert backbone(torch.randn(1, 3, 96, 32))["stage1"].shape == (1, 96, 24, 8)


def test_levels_are_named_by_position_whatever_the_order() -> None:
    backbone = build(settings("test_vit", OUT_INDICES=[-1, 1])).eval()
    assert list(backbone.output_shape()) == ["stage2", "stage6"]
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = backbone.network.model.forward_intermediates(images, indices=[1, 5], intermediates_only=True)
        found = backbone(images)
    assert torch.equal(found["stage2"], expected[0])
    assert torch.equal(found["stage6"], expected[1])


@pytest.mark.parametrize("name", [LITE0, "convnext_tiny.fb_in1k", "resnet10t", "test_vit"])
def test_pixels_are_timms(name: str) -> None:
    expected = timm.data.resolve_model_data_config(timm.create_model(name))
    mean, std = timm_pixels(name)
    assert mean == pytest.approx([255 * value for value in expected["mean"]])
    assert std == pytest.approx([255 * value for value in expected["std"]])


def pixels(config: str, overrides: dict[str, Any]) -> tuple[str, list[float], list[float]]:
    cfg = load_config(config, overrides)
    return cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD


def test_config_takes_the_pixels_of_the_weights() -> None:
    image_format, mean, std = pixels(ZOO, settings(LITE0))
    assert image_format == "RGB"
    assert mean == pytest.approx([127.5, 127.5, 127.5])
    assert std == pytest.approx([127.5, 127.5, 127.5])
    assert pixels(ZOO, {"MODEL.TIMM.NAME": LITE0}) == pixels(ZOO, {})  # with another builder


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    resnet = settings("resnet10t")
    mean, std = timm_pixels("resnet10t")
    zeros, ones = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    assert pixels(ZOO, {**resnet, "MODEL.PIXEL_MEAN": zeros}) == ("RGB", zeros, std)
    # Detectron2's own default, but asked for:
    assert pixels(ZOO, {**resnet, "MODEL.PIXEL_STD": ones}) == ("RGB", mean, ones)
    assert pixels(ZOO, {**resnet, "INPUT.FORMAT": "BGR"}) == ("BGR", mean[::-1], std[::-1])
    file = tmp_path / "own.yaml"
    file.write_text("MODEL: {PIXEL_MEAN: [1.0, 2.0, 3.0], BACKBONE: {NAME: build_timm_backbone}}\nVERSION: 2\n")
    assert pixels(str(file), {"MODEL.TIMM.NAME": "resnet10t"}) == ("RGB", [1.0, 2.0, 3.0], std)


def flat(**arguments: Any) -> torch.nn.Module:
    """A model of a user without feature levels."""
    return torch.nn.Flatten()


FPN = "build_timm_fpn_backbone"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (settings(""), "NAME is empty: give a timm model, such as"),
        (settings("resnet81"), "is no model of timm .*; did you mean .*resnet"),
        (settings("qqqq"), r"is no model of timm .*list_models"),
        (settings("hf-hub:timm/resnet18"), "is no model of timm"),
        (settings("resnet10t.nothing"), "has no weights 'nothing' of resnet10t: it has resnet10t.c3_in1k"),
        (settings("flat"), "no feature levels .*: it has no feature_info"),
        (settings("vgg11", OUTPUT_STRIDE=8), "with in_chans=3, output_stride=8: AssertionError"),
        (settings("vgg11", DROP_PATH_RATE=0.1), "unexpected keyword argument 'drop_path_rate'"),
        (settings("resnet10t", OUT_INDICES=[7]), r"out_indices=\(7,\): IndexError"),
        (settings("hiera_tiny_224", OUT_INDICES=[0]), "was made for 224×224 pixels and refuses 32×20"),
        (settings("test_vit_relpos"), "was made for 160×160 pixels and refuses 128×80"),
        (settings("crossvit_9_240"), r"gives stage3 \(stride 12\) of 136×85 pixels as \(128, 20, 20\)"),
        (settings("resnet10t", FPN, OUTPUT_STRIDE=8), r"needs strides such as .* stage5 \(stride 8\)"),
        ({**settings("resnet10t", FPN), "MODEL.FPN.IN_FEATURES": ["stage2", "stage4"]}, "to levels that double"),
        ({**settings("resnet10t", FPN), "MODEL.FPN.IN_FEATURES": ["res2"]}, r"names res2, but .* stage2 \(stride 4\)"),
        (settings("resnet10t", FPN, OUT_INDICES=[0]), "needs a level of stride 4 or more"),
        (settings("vit_small_patch14_dinov2", FPN, OUT_INDICES=[0]), "a power of two, .* 8 or 16"),
    ],
)
def test_refuses(overrides: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timm.models._registry._model_entrypoints, "flat", flat)
    with pytest.raises(ConfigError, match=message):
        build(overrides)


def test_missing_timm_prints_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DependencyError, match=r"pip install 'lightning_seg\[timm\]'"):
        load_config(ZOO, settings("resnet10t"))


@pytest.mark.parametrize("builder", NEVER_FROZEN)
def test_freezing_what_is_never_frozen_is_refused(builder: str, tmp_path: Path) -> None:
    overrides = {"MODEL.BACKBONE.NAME": builder, "MODEL.TIMM.NAME": "resnet10t"}
    (tmp_path / "freezes.yaml").write_text("MODEL: {BACKBONE: {FREEZE_AT: 3}}")
    for config, value in ((ZOO, {"MODEL.BACKBONE.FREEZE_AT": 2}), (str(tmp_path / "freezes.yaml"), {})):
        with pytest.raises(ConfigError, match=rf"FREEZE_AT is \d, but {builder} trains every stage: leave the key out"):
            load_config(config, {**overrides, **value})
    assert load_config(ZOO, overrides).MODEL.BACKBONE.FREEZE_AT == 2  # Detectron2's default, which nobody chose
    load_config(ZOO, {**overrides, "MODEL.BACKBONE.FREEZE_AT": 0})


def test_never_frozen_names_every_builder_that_does_not_heed_the_key() -> None:
    register_backbones()
    ours = {name for name, build in BACKBONE_REGISTRY if build.__module__.startswith("lightning_seg.")}
    assert ours - {name for name in ours if "regnet" in name} == set(NEVER_FROZEN)
