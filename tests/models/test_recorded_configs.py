"""What a checkpoint holds of a config builds the same network without the file."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.config import leaves, load_config, recorded_values
from lightning_seg.models.lazy_values import tree_of, values_of
from lightning_seg.models.recipe import load_recipe, record_config, recorded_config
from lightning_seg.models.yaml_recipe import YamlRecipe
from tests.conftest import TINY_OVERRIDES
from tests.models.lazy_configs import OPTIMIZER, TINY

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


class OwnNorm(nn.BatchNorm2d):
    """A layer of the user's own."""


def saved(value: Any, folder: Path) -> Any:
    """As it comes back from a checkpoint, which holds plain values alone."""
    torch.save(value, folder / "value.pt")
    return torch.load(folder / "value.pt", weights_only=True)


def weights_of(recipe: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    weights: dict[str, Tensor] = recipe.build_network(5, 255).state_dict()
    return weights


def assert_alike(one: Any, other: Any) -> None:
    first, second = weights_of(one), weights_of(other)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (one.bgr, one.weights, one.notices) == (other.bgr, other.weights, other.notices)


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        (ZOO, TINY_OVERRIDES),
        ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", {"MODEL.RESNETS.NORM": "BN"}),
        (
            ZOO,
            {
                "MODEL.BACKBONE.NAME": "build_timm_fpn_backbone",
                "MODEL.TIMM.NAME": "resnet10t",
                "MODEL.FPN.IN_FEATURES": [],
            },
        ),
    ],
)
def test_a_yaml_config_comes_back_whole(config: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    """Also an expression in a file of Detectron2's, and pixel values that follow from a timm backbone."""
    recipe = load_recipe(config, overrides)
    file, values = recorded_config(saved(record_config(config, recipe), tmp_path))
    assert file == config
    assert values is not None
    again = load_recipe("gone.yaml", overrides, values)
    assert isinstance(recipe, YamlRecipe)
    assert isinstance(again, YamlRecipe)
    assert dict(leaves(again._cfg)) == dict(leaves(recipe._cfg))
    assert again.values == recipe.values
    assert_alike(recipe, again)


def test_the_record_is_of_the_file_before_overrides() -> None:
    recipe = load_recipe(ZOO, TINY_OVERRIDES)
    assert recipe.values is not None
    assert recipe.values["MODEL.RESNETS.DEPTH"] == 50
    assert recorded_values(load_config(ZOO, {})) == recipe.values


def test_a_key_that_is_gone_is_named() -> None:
    values = {**(load_recipe(ZOO, {}).values or {}), "MODEL.OLD": 1}
    with pytest.raises(ConfigError, match=r"record of model.config a.yaml has MODEL.OLD, which this version does not"):
        load_recipe("a.yaml", {}, values)


def test_a_lazy_config_comes_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "tiny.py"
    file.write_text(TINY + OPTIMIZER)
    overrides = {"optimizer.lr": 0.003}
    recipe = load_recipe(str(file), overrides)
    _, values = recorded_config(saved(record_config(str(file), recipe), tmp_path))
    file.unlink()
    again = load_recipe(str(file), overrides, values)
    assert_alike(recipe, again)
    assert again.values == recipe.values
    network = again.build_network(5, 255)
    optimizer = again.build_optimizer(network)
    assert optimizer.param_groups[0]["lr"] == 0.003
    rates = [torch.optim.SGD(network.parameters(), 1.0) for _ in range(2)]
    schedules = [one.build_lr_scheduler(rate, 10) for one, rate in zip((recipe, again), rates, strict=True)]
    for _ in range(5):
        assert schedules[0].get_last_lr() == schedules[1].get_last_lr()
        for schedule in schedules:
            schedule.step()


def test_values_of_a_lazy_config(tmp_path: Path) -> None:
    """Classes, functions with arguments, mappings by numbers and references are named; data loaders hold no code."""
    tree = DictConfig(
        {
            "model": {
                "_target_": nn.Sequential,
                "norm": functools.partial(nn.LayerNorm, eps=1e-6),
                "own": OwnNorm,
                "sizes": {1: "a", 2: [3, 4.5, None]},
                "again": "${model.sizes}",
            },
            "optimizer": {"_target_": torch.optim.SGD, "params": {"rate": lambda name: 1}},
            "dataloader": {"train": {"_target_": print, "total_batch_size": 16, "dataset": object()}},
        },
        flags={"allow_objects": True},
    )
    values = saved(values_of(tree), tmp_path)
    again = tree_of("a.py", values)
    assert again.model._target_ is nn.Sequential
    assert again.model.norm.func is nn.LayerNorm
    assert again.model.norm.keywords == {"eps": 1e-6}
    assert again.model.own is OwnNorm
    assert again.model.again == {1: "a", 2: [3, 4.5, None]}
    assert "optimizer" not in again
    assert again.dataloader == {"train": {"total_batch_size": 16}}


@pytest.mark.parametrize("value", [lambda: 1, object(), print])
def test_a_model_that_only_its_file_can_name_is_not_recorded(value: Any) -> None:
    tree = DictConfig({"model": {"_target_": nn.Sequential, "part": value}}, flags={"allow_objects": True})
    assert values_of(tree) is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"_target_": "os.system", "command": "true"}, "it calls os.system, which is no layer"),
        ({"_target_": {"_recorded_": "named", "name": "os.system"}}, r"it calls (os|posix).system, which is no layer"),
        ({"act": {"_recorded_": "partial", "name": "os.getpid", "args": [], "keywords": {}}}, "getpid, which is no"),
        ({"_target_": {"_recorded_": "named", "name": "gone.Head"}}, "No module named 'gone'"),
        ({"_target_": "torch.nn.Gone"}, "Gone"),
    ],
)
def test_a_record_calls_nothing_but_parts_of_networks(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"record of model.config a.py cannot be used here: .*{message}"):
        tree_of("a.py", {"model": model})
