"""Names: Caffe2's, torchvision's and timm's weights in Detectron2's and timm's networks."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights import load_weights
from lightning_seg.models.weights.names import match_names
from lightning_seg.module import SegmentationModule
from tests.models.weight_files import backbone, network, save_pth, save_safetensors

PREPROCESSING = {"INPUT__FORMAT": "RGB", "MODEL__PIXEL_STD": [58.395, 57.12, 57.375]}


def resnet(depth: int, **settings: Any) -> nn.Module:
    """A network with a ResNet of torchvision's sizes."""
    sizes = {"STEM_OUT_CHANNELS": 64, "RES2_OUT_CHANNELS": 64 if depth < 50 else 256, "WIDTH_PER_GROUP": 64}
    resnets = {f"MODEL__RESNETS__{name}": value for name, value in {"DEPTH": depth, **sizes}.items()}
    return network(1, **resnets, **settings)


def randomise(module: nn.Module) -> nn.Module:
    """Give every norm statistics of its own, so that one in the wrong place shows."""
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnet_of_torchvision_gives_the_same_features(tmp_path: Path, depth: int) -> None:
    torch.manual_seed(0)
    theirs = randomise(getattr(torchvision.models, f"resnet{depth}")(weights=None))
    ours = resnet(depth, MODEL__RESNETS__STRIDE_IN_1X1=False, **PREPROCESSING).eval()
    report = load_weights(ours, save_pth(theirs.state_dict(), tmp_path / "w"))
    assert report.unexpected == ("fc.weight", "fc.bias")
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        found = ours.backbone.bottom_up(image)
        for index in range(1, 5):
            expected = getattr(theirs, f"layer{index}")(expected)
            assert torch.equal(found[f"res{index + 1}"], expected), f"layer{index}"


def test_another_preprocessing_than_torchvisions_is_warned_of(tmp_path: Path) -> None:
    path = save_pth(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w")
    with pytest.warns(UserWarning, match=r"expect INPUT\.FORMAT RGB"):
        load_weights(resnet(18), path)


def test_a_lazy_configs_reader_is_told_of_its_own_keys(tmp_path: Path) -> None:
    path = save_pth(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "w")
    expected = (
        r"expect model\.input_format RGB, model\.pixel_mean .* model\.pixel_std .* "
        r"model\.backbone\.bottom_up\.stages\.stride_in_1x1 False"
    )
    with pytest.warns(UserWarning, match=expected):
        SegmentationModule("common/models/panoptic_fpn.py", ["a"], weights=path).load_pretrained()


def test_a_resnet_of_another_depth_is_refused(tmp_path: Path) -> None:
    path = save_pth(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"not in it: backbone\.bottom_up\.res2\.2"):
        load_weights(resnet(34), path)


def caffe2_names(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The bottleneck ResNet as MSRA's ``R-50.pkl`` has it: norms are a factor (``s``) and a summand (``b``)."""
    found = {}
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            continue
        new = name.replace("stem.conv1.norm.", "res_conv1_bn_").replace("stem.conv1.", "conv1_")
        for part, branch in (("shortcut", "1"), ("conv1", "2a"), ("conv2", "2b"), ("conv3", "2c")):
            new = new.replace(f".{part}.norm.", f"_branch{branch}_bn_").replace(f".{part}.", f"_branch{branch}_")
        kind = "s" if "bn_weight" in new else "b" if new.endswith("bias") else "w"
        new = new.removesuffix("weight").removesuffix("bias") + kind
        found[new.replace(".", "_")] = value.numpy()
    return found


@pytest.mark.parametrize("blobs", [False, True])
def test_caffe2_weights_load_into_frozen_norms(tmp_path: Path, blobs: bool) -> None:
    source = network(0)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    arrays = caffe2_names(backbone(source.state_dict()))
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_bn_b", "res5_2_branch2c_w"} <= set(arrays)
    arrays |= {"pred_w": np.zeros((10, 3)), "conv1_w_momentum": np.zeros(3)}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": arrays, "cfg": "MODEL: x"} if blobs else arrays, 2))

    target = network(1, MODEL__RESNETS__NORM="FrozenBN")
    report = load_weights(target, str(path))
    assert report.unexpected == ("linear.weight",)
    state = target.state_dict()
    for name, value in backbone(source.state_dict()).items():
        if name.endswith(("weight", "bias")):
            assert torch.equal(state[f"backbone.bottom_up.{name}"], value), name
    assert state["backbone.bottom_up.stem.conv1.norm.running_mean"].eq(0).all()
    assert state["backbone.bottom_up.stem.conv1.norm.running_var"].eq(1).all()

    with pytest.raises(CheckpointError, match=r"fused into factors, so set MODEL\.RESNETS\.NORM FrozenBN"):
        load_weights(network(1), str(path))


class Wrapped(nn.Module):
    """A stand-in for a network whose backbone wraps a timm model, with a decoder that names its layers likewise."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.model = body
        self.backbone.fpn_lateral2 = nn.Conv2d(8, 4, 1)
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.bn2 = nn.BatchNorm2d(1280)
        self.sem_seg_head.blocks = nn.Sequential(nn.Sequential(nn.Module()))
        self.sem_seg_head.blocks[0][0].conv_dw = nn.Conv2d(32, 1, 3)


@pytest.mark.parametrize("where", ["made", "shared"])
def test_weights_of_timm_load_into_a_wrapped_backbone(
    tmp_path: Path, request: pytest.FixtureRequest, where: str
) -> None:
    timm = pytest.importorskip("timm")
    name = "tf_efficientnet_lite0"
    whole = randomise(timm.create_model(name))
    if where == "shared":
        path = str(request.getfixturevalue("shared") / "weights" / f"{name}.safetensors")
        whole = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": path})
    else:
        path = save_safetensors(whole.state_dict(), tmp_path / "w")
    body = timm.create_model(name, features_only=True)
    target = Wrapped(body)
    report = load_weights(target, path)
    assert set(report.unexpected) == {
        "classifier.weight", "classifier.bias", "conv_head.weight",
        "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var",
    }  # fmt: skip
    for key, value in body.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key
    assert "sem_seg_head.bn2.weight" in report.missing


def test_timms_feature_names_are_flattened(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    settings = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
    whole = timm.create_model("convnext_atto", **settings)
    body = timm.create_model("convnext_atto", features_only=True, **settings)
    load_weights(Wrapped(body), save_pth(whole.state_dict(), tmp_path / "w"))
    for key, value in body.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key.replace("stages_", "stages.").replace("stem_", "stem.")]), key


def test_a_name_that_fits_twice_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"conv\.weight in the file may be body\.a\.conv\.weight, body\.b"):
        match_names(["body.a.conv.weight", "body.b.conv.weight"], {"conv.weight": 0}, by_suffix=True)


def test_the_prefix_that_most_need_decides() -> None:
    names = ["body.conv1.weight", "body.layer.0.weight", "body.layer.1.conv1.weight"]
    stored = {"conv1.weight": 0, "layer.0.weight": 0}
    assert match_names(names, stored, by_suffix=False) == {name: name[5:] for name in names[:2]}


def test_matches_as_detectron2_does() -> None:
    from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

    state = network(0).state_dict()
    stored = {**backbone(state), **backbone(state, "backbone.")}
    theirs = align_and_update_state_dicts(state, {name: value.clone() for name, value in stored.items()}, False)
    ours = match_names(state, stored, by_suffix=True)
    assert set(ours) == {name for name in theirs if name in state}
    for name, end in ours.items():
        assert torch.equal(theirs[name], stored[end]), name
