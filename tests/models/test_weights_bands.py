"""Weights for RGB in networks for other bands: timm's rule, and what it is not for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor

from lightning_seg.checkpoints.matching import refuse_other_model
from lightning_seg.errors import CheckpointError
from lightning_seg.models.backbones.timm import TimmBackbone
from lightning_seg.models.image_layers import image_layers
from lightning_seg.models.weights import NETWORK_PREFIX, load_weights
from lightning_seg.models.weights.bands import of_other_bands
from tests.models.networks import build_segmentor, overrides_of
from tests.models.weight_files import State, backbone, network, save_pkl, save_pth, save_safetensors

pytestmark = pytest.mark.usefixtures("one_thread")

INPUTS = {
    "resnet18": "backbone.stem.conv1",
    "resnet50, stem of DeepLab": "backbone.stem.conv1",
    "resnet18 FPN": "backbone.bottom_up.stem.conv1",
    "regnet": "backbone.stem.conv",
    "swin FPN": "backbone.bottom_up.patch_embed.proj",
    "vit pyramid": "backbone.net.patch_embed.proj",
    "mvit FPN": "backbone.bottom_up.patch_embed.proj",
    "timm resnet": "backbone.network.conv1.0",
    "timm efficientnet": "backbone.network.conv_stem",
    "timm convnext": "backbone.network.stem_0",
    "timm mambaout, NHWC": "backbone.network.stem.conv1",
    "timm vit pyramid": "backbone.net.network.model.patch_embed.proj",
}
"""Backbones, and the layer of each that sees the image."""


def pixels(channels: int) -> dict[str, Any]:
    return {"MODEL.PIXEL_MEAN": [100.0] * channels, "MODEL.PIXEL_STD": [50.0] * channels}


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 12, 13])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_rule_is_timms(channels: int, dtype: torch.dtype) -> None:
    weight = torch.randn(8, 3, 7, 5).to(dtype)
    expected = adapt_input_conv(channels, weight.clone())
    found = of_other_bands(weight, channels)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", INPUTS)
def test_every_backbone_takes_weights_for_rgb(tmp_path: Path, name: str) -> None:
    overrides = {**overrides_of(name, "DeepLabV3Head"), "INPUT.FORMAT": "RGB"}
    source = build_segmentor(overrides, seed=0).network.state_dict()
    target = build_segmentor({**overrides, **pixels(4)}, seed=1).network
    layer = f"{INPUTS[name]}.weight"
    report = load_weights(target, save_pth(source, tmp_path / "w"))
    assert [one.name for one in report.adapted] == [layer]
    assert f"{layer}: from 3 channels to 4: the weights of red, green and blue, in turn, times 3/4" in str(report)
    assert layer in report.matched
    assert report.reshaped == ()
    for tensor, value in target.state_dict().items():
        expected = adapt_input_conv(4, source[tensor].clone()) if tensor == layer else source[tensor]
        assert torch.equal(value, expected), tensor


@pytest.mark.parametrize("save", [save_pth, save_safetensors, save_pkl])
@pytest.mark.parametrize("bgr", [False, True])
def test_a_bare_backbone_of_any_format_and_order(tmp_path: Path, save: Callable[[State, Path], str], bgr: bool) -> None:
    source = backbone(network(0).state_dict())
    target = network(1, **{name.replace(".", "__"): value for name, value in pixels(4).items()})
    report = load_weights(target, save(source, tmp_path / "w"), bgr=bgr)
    of_rgb = source["stem.conv1.weight"].flip(1) if bgr else source["stem.conv1.weight"]
    found = target.state_dict()["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(found, adapt_input_conv(4, of_rgb.clone()))
    assert ("which were blue, green, red in the file" in str(report)) == bgr


def test_one_band_gets_the_sum(tmp_path: Path) -> None:
    source = backbone(network(0).state_dict())
    target = network(1, MODEL__PIXEL_MEAN=[100.0], MODEL__PIXEL_STD=[50.0])
    report = load_weights(target, save_pth(source, tmp_path / "w"))
    found = target.state_dict()["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(found, source["stem.conv1.weight"].sum(1, keepdim=True))
    assert "from 3 channels to 1: the weights of red, green and blue, their sum" in str(report)


def test_torchvisions_weights_see_rgb_whatever_the_config_says(tmp_path: Path) -> None:
    import torchvision

    state = torchvision.models.resnet18().state_dict()
    shallow = {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.STEM_OUT_CHANNELS": 64, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
    keys = {**shallow, **pixels(4), "INPUT.FORMAT": "BGR"}
    target = network(1, **{name.replace(".", "__"): value for name, value in keys.items()})
    report = load_weights(target, save_pth(state, tmp_path / "w"), bgr=True)
    found = target.state_dict()["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(found, adapt_input_conv(4, state["conv1.weight"].clone()))
    assert not report.adapted[0].was_bgr


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_mambaout"])
@pytest.mark.parametrize("channels", [1, 4])
def test_timms_weights_give_what_timm_makes_of_them(tmp_path: Path, name: str, channels: int) -> None:
    torch.manual_seed(0)
    path = save_safetensors(timm.create_model(name).state_dict(), tmp_path / "w")
    overlay = {"file": path}
    theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels).state_dict()
    overrides = {**overrides_of("timm resnet", "DeepLabV3Head"), **pixels(channels), "MODEL.TIMM.NAME": name}
    last = list(TimmBackbone(name).output_shape())[-1]
    target = build_segmentor({**overrides, "MODEL.SEM_SEG_HEAD.IN_FEATURES": [last], **_stride(name, last)}).network
    report = load_weights(target, path)
    assert len(report.adapted) == 1
    layer = report.adapted[0].name
    plain = layer.removeprefix("backbone.network.").removeprefix("model.").replace("stem_0", "stem.0")
    assert torch.equal(target.state_dict()[layer], theirs[plain])


def _stride(name: str, level: str) -> dict[str, int]:
    return {"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": TimmBackbone(name).output_shape()[level].stride}


def test_a_layer_that_does_not_see_the_image_is_no_input() -> None:
    segmentor = build_segmentor(overrides_of("resnet18", "SemSegFPNHead"))
    assert image_layers(segmentor.network, 3) == ["backbone.stem.conv1"]


def test_weights_for_other_bands_are_refused(tmp_path: Path) -> None:
    five = {"MODEL__PIXEL_MEAN": [100.0] * 5, "MODEL__PIXEL_STD": [50.0] * 5}
    path = save_pth(backbone(network(0, **five).state_dict()), tmp_path / "w")
    for channels in (3, 4):
        target = network(1, MODEL__PIXEL_MEAN=[100.0] * channels, MODEL__PIXEL_STD=[50.0] * channels)
        with pytest.raises(
            CheckpointError, match=rf"is for images of 5 channels, but MODEL\.PIXEL_MEAN has {channels}"
        ):
            load_weights(target, path)


def checkpoint(state: State, path: Path) -> str:
    torch.save({"state_dict": {NETWORK_PREFIX + name: value for name, value in state.items()}}, path)
    return str(path)


def test_a_checkpoint_of_this_program_is_for_its_own_bands(tmp_path: Path) -> None:
    path = checkpoint(network(0).state_dict(), tmp_path / "rgb.ckpt")
    target = network(1, MODEL__PIXEL_MEAN=[100.0] * 4, MODEL__PIXEL_STD=[50.0] * 4)
    with pytest.raises(CheckpointError, match=r"rgb\.ckpt is for images of 3 channels, but MODEL\.PIXEL_MEAN has 4"):
        load_weights(target, path)


def test_a_training_goes_on_with_its_own_bands() -> None:
    before, here = (_named(network(0, MODEL__PIXEL_MEAN=[1.0] * n, MODEL__PIXEL_STD=[1.0] * n)) for n in (3, 4))
    with pytest.raises(CheckpointError, match=r"trained on images of 3 channels, and the pixel mean here has 4: give"):
        refuse_other_model(here, before, 4)
    refuse_other_model(here, here, 4)
    wider = {**before, "more": torch.zeros(1)}
    with pytest.raises(
        CheckpointError, match=r"1 tensors differ in shape, .*in it are not in this model, such as more"
    ):
        refuse_other_model({**before, "a": torch.zeros(2)}, {**wider, "a": torch.zeros(3)}, 3)


def _named(built: Any) -> dict[str, Tensor]:
    return {f"segmentor.network.{name}": value for name, value in built.state_dict().items()}


def test_rgb_needs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.models.weights.bands.image_layers", None)
    report = load_weights(network(1), save_pth(network(0).state_dict(), tmp_path / "w"))
    assert report.adapted == ()
