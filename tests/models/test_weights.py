"""Weights: what loads, what is reported, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_seg.errors import CheckpointError
from lightning_seg.models.config import load_config
from lightning_seg.models.weights import NETWORK_PREFIX, Reshaped, load_weights, warn_of_frozen_random
from lightning_seg.module import SegmentationModule
from tests.conftest import TINY_OVERRIDES
from tests.models.weight_files import NARROW, ZOO, State, backbone, network, save_pkl, save_pth, save_safetensors


def save_plain(state: State, path: Path) -> str:
    torch.save({f"module.{name}": value for name, value in state.items()}, path.with_suffix(".pth"))
    return str(path.with_suffix(".pth"))


def save_ckpt(state: State, path: Path) -> str:
    stored = {NETWORK_PREFIX + name: value for name, value in state.items()}
    torch.save({"state_dict": {**stored, "confusion.counts": torch.zeros(1)}}, path.with_suffix(".ckpt"))
    return str(path.with_suffix(".ckpt"))


def save_pyth(state: State, path: Path) -> str:
    torch.save({"model_state": state, "epoch": 3}, path.with_suffix(".pyth"))
    return str(path.with_suffix(".pyth"))


FORMATS = [save_pth, save_plain, save_ckpt, save_pyth, save_safetensors, save_pkl]


@pytest.mark.parametrize("save", FORMATS)
def test_a_whole_model_loads_every_tensor(tmp_path: Path, save: Callable[[State, Path], str]) -> None:
    source, target = network(0), network(1)
    report = load_weights(target, save(source.state_dict(), tmp_path / "w"))
    count = sum(not name.endswith("num_batches_tracked") for name in source.state_dict())
    assert f"{count} of {count} tensors loaded" in str(report)
    assert (len(report.matched), report.missing, report.unexpected, report.reshaped) == (count, (), (), ())
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


@pytest.mark.parametrize("save", FORMATS)
def test_a_bare_backbone_loads_by_the_ends_of_names(tmp_path: Path, save: Callable[[State, Path], str]) -> None:
    source, target = network(0), network(1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    stored = {**backbone(source.state_dict()), "fc.weight": torch.zeros(10, 3)}
    report = load_weights(target, save(stored, tmp_path / "w"))
    assert report.unexpected == ("fc.weight",)
    assert "backbone.fpn_lateral2.weight" in report.missing
    assert "in the file, not used: fc.weight" in str(report)
    assert "the backbone is whole; new beside it, and so left random: backbone.fpn_lateral2.weight" in str(report)
    for name, value in target.state_dict().items():
        expected = source.state_dict() if name.startswith("backbone.bottom_up.") else before
        assert torch.equal(value, expected[name]), name


def test_the_query_of_detectron2_matches_ends_of_names(tmp_path: Path) -> None:
    source = network(0)
    state = source.state_dict()
    stored = {"backbone.fpn_lateral2.bias": state["backbone.fpn_lateral2.bias"], **backbone(state)}
    path = save_pth(stored, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"backbone\.bottom_up\.stem"):
        load_weights(network(1), path)
    report = load_weights(network(1), f"{path}?matching_heuristics=True")
    assert {"backbone.fpn_lateral2.bias", "backbone.bottom_up.stem.conv1.weight"} <= set(report.matched)


def test_a_head_for_other_classes_needs_fresh_head(tmp_path: Path) -> None:
    path = save_pth(network(0, num_classes=7).state_dict(), tmp_path / "w")
    target = network(1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    expected = (
        r"sem_seg_head\.predictor\.weight is \(7, 16, 1, 1\) in the file, \(5, 16, 1, 1\) here, "
        r"sem_seg_head\.predictor\.bias is \(7,\) in the file, \(5,\) here.*model\.fresh_head: true"
    )
    with pytest.raises(CheckpointError, match=expected):
        load_weights(target, path)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed although the file was refused"
    report = load_weights(target, path, fresh_head=True)
    assert report.reshaped[1] == Reshaped("sem_seg_head.predictor.bias", (7,), (5,))
    assert "of another shape, left random: sem_seg_head.predictor.weight is (7, 16, 1, 1)" in str(report)
    assert "the backbone is whole" not in str(report)
    assert torch.equal(target.state_dict()["sem_seg_head.predictor.bias"], before["sem_seg_head.predictor.bias"])
    assert not torch.equal(target.state_dict()["sem_seg_head.p2.0.weight"], before["sem_seg_head.p2.0.weight"])


def test_a_fresh_head_of_pointrend_includes_what_reads_its_logits(tmp_path: Path) -> None:
    """By the names and shapes of ``projects/point_rend``: the point head's layers take the coarse logits too."""

    def model(classes: int) -> nn.Module:
        whole, point = nn.Module(), nn.Module()
        whole.backbone = nn.Conv2d(3, 4, 1)
        whole.sem_seg_head = nn.Module()
        whole.sem_seg_head.coarse_sem_seg_head = nn.Conv2d(4, classes, 1)
        whole.sem_seg_head.point_head = point
        point.fc1 = nn.Conv1d(4 + classes, 4, 1)
        point.predictor = nn.Conv1d(4 + classes, classes, 1)
        return whole

    path = save_pth(model(7).state_dict(), tmp_path / "w")
    report = load_weights(model(5), path, fresh_head=True)
    assert [one.name.removeprefix("sem_seg_head.") for one in report.reshaped] == [
        "coarse_sem_seg_head.weight",
        "coarse_sem_seg_head.bias",
        "point_head.fc1.weight",
        "point_head.predictor.weight",
        "point_head.predictor.bias",
    ]


def test_a_whole_model_must_have_everything(tmp_path: Path) -> None:
    state = dict(network(0).state_dict())
    del state["sem_seg_head.p2.0.weight"]
    path = save_pth(state, tmp_path / "w")
    expected = r"a whole model.*1 tensors.*not in it: sem_seg_head\.p2\.0\.weight.*allow_missing: \[sem_seg_head\.p2"
    with pytest.raises(CheckpointError, match=expected):
        load_weights(network(1), path, fresh_head=True)
    assert load_weights(network(1), path, allow_missing=["sem_seg_head.p2"]).missing == ("sem_seg_head.p2.0.weight",)


def test_another_width_is_no_fresh_head(tmp_path: Path) -> None:
    path = save_pth(network(0, MODEL__SEM_SEG_HEAD__CONVS_DIM=24).state_dict(), tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"of another shape: .*\(24, 16, 3, 3\) in the file"):
        load_weights(network(1), path, fresh_head=True)
    report = load_weights(network(1), path, allow_missing=["sem_seg_head."])
    assert {one.name.split(".")[0] for one in report.reshaped} == {"sem_seg_head"}


@pytest.mark.parametrize("change", ["missing", "reshaped"])
def test_a_bare_backbone_must_have_all_of_it(tmp_path: Path, change: str) -> None:
    stored = backbone(network(0).state_dict())
    name = "res4.1.conv2.weight"
    if change == "missing":
        del stored[name]
    else:
        stored[name] = stored[name][:3]
    path = save_pth(stored, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"a bare backbone.*res4\.1\.conv2\.weight.*backbone\.bottom_up\.res4"):
        load_weights(network(1), path, fresh_head=True)
    assert "is whole" not in str(load_weights(network(1), path, allow_missing=["backbone.bottom_up.res4"]))


def test_what_a_feature_pyramid_adds_is_in_no_backbone(tmp_path: Path) -> None:
    """As ``SimpleFeaturePyramid`` has it: ``backbone.net`` is the transformer, ``backbone.simfp_2`` is new."""
    target, body = nn.Module(), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    target.backbone = nn.Module()
    target.backbone.net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    target.backbone.simfp_2 = nn.Sequential(nn.ConvTranspose2d(3, 2, 2))
    stored = {name: value for name, value in body.state_dict().items() if not name.endswith("num_batches_tracked")}
    report = load_weights(target, save_pth(stored, tmp_path / "w"))
    assert report.missing == ("backbone.simfp_2.0.weight", "backbone.simfp_2.0.bias")
    assert torch.equal(target.backbone.net[0].weight, body[0].weight)


def test_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    path = save_pth({"encoder.weight": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"nothing in .* fits this network.*encoder\.weight"):
        load_weights(network(0), path, allow_missing=[""])


def test_the_module_passes_its_arguments_on(tmp_path: Path) -> None:
    state = dict(network(0, num_classes=7).state_dict())
    del state["sem_seg_head.p2.0.weight"]
    settings: dict[str, Any] = {
        "config": ZOO,
        "class_names": ["a", "b"],
        "overrides": NARROW,
        "weights": save_pth(state, tmp_path / "w"),
    }
    with pytest.raises(CheckpointError, match="allow_missing"):
        SegmentationModule(**settings, fresh_head=True).load_pretrained()
    with pytest.raises(CheckpointError, match="fresh_head"):
        SegmentationModule(**settings, allow_missing=["sem_seg_head.p2"]).load_pretrained()
    SegmentationModule(**settings, fresh_head=True, allow_missing=["sem_seg_head.p2"]).load_pretrained()


def test_warns_where_frozen_layers_would_stay_random() -> None:
    warning = warn_of_frozen_random(load_config(ZOO, {}))
    assert warning is not None
    assert "MODEL.BACKBONE.FREEZE_AT 2 and MODEL.RESNETS.NORM FrozenBN" in warning
    assert warn_of_frozen_random(load_config(ZOO, TINY_OVERRIDES)) is None
    regnet = {"MODEL.BACKBONE.NAME": "build_regnet_fpn_backbone"}
    warning = warn_of_frozen_random(load_config(ZOO, regnet))
    assert warning is not None
    assert "FREEZE_AT 2 would keep them random: write " in warning
    assert "model.overrides: {MODEL.BACKBONE.FREEZE_AT: 0, MODEL.REGNET.NORM: BN}, or give model.weights" in warning
    assert warn_of_frozen_random(load_config(ZOO, {**regnet, "MODEL.BACKBONE.FREEZE_AT": 0})) is None
    assert warn_of_frozen_random(load_config(ZOO, {"MODEL.BACKBONE.NAME": "build_swin_fpn_backbone"})) is None
    assert warn_of_frozen_random(load_config(ZOO, NARROW)) is None
