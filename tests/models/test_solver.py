"""Parameter groups and schedules against Detectron2's own, and schedules over the trainer's real number of steps."""

import itertools
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lightning_seg.errors import ConfigError
from lightning_seg.models.config import load_config
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.solver import SCHEDULES, build_lr_scheduler, build_optimizer, stretch_schedule
from tests.conftest import TINY_OVERRIDES

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def sgd(lr: float = 0.01) -> torch.optim.Optimizer:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": factor * lr} for factor in (1, 2)]
    return torch.optim.SGD(groups, lr=lr)


def rates(scheduler: Any) -> Iterator[list[float]]:
    """The learning rate of each group in step 0, 1, 2 …"""
    optimizer = scheduler.optimizer
    optimizer.step()
    while True:
        yield [group["lr"] for group in optimizer.param_groups]
        scheduler.step()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("WarmupMultiStepLR", {}),
        ("WarmupCosineLR", {"SOLVER.BASE_LR_END": 0.0001}),
        ("WarmupStepWithFixedGammaLR", {}),
        ("WarmupPolyLR", {}),
        ("WarmupPolyLR", {"SOLVER.POLY_LR_CONSTANT_ENDING": 0.01, "SOLVER.WARMUP_METHOD": "constant"}),
    ],
)
def test_every_rate_of_90000_steps_is_detectron2s(name: str, settings: dict[str, Any]) -> None:
    from detectron2.projects.deeplab import build_lr_scheduler as detectron2s

    cfg = load_config(ZOO, {"SOLVER.LR_SCHEDULER_NAME": name, "SOLVER.WARMUP_ITERS": 1000, **settings})
    assert cfg.SOLVER.MAX_ITER == 90_000
    pairs = zip(rates(build_lr_scheduler(cfg, sgd(), 90_000)), rates(detectron2s(cfg, sgd())), strict=True)
    compared, seen = 0, set()
    for ours, theirs in itertools.islice(pairs, 90_000):
        assert ours == theirs, f"step {compared}"
        compared += 1
        seen.add(ours[0])
    assert compared == 90_000
    assert len(seen) > 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_last_rate_holds(name: str) -> None:
    cfg = load_config(ZOO, {"SOLVER.LR_SCHEDULER_NAME": name})
    found = list(itertools.islice(rates(build_lr_scheduler(cfg, sgd(), 12)), 15))
    assert found[11:] == [found[11]] * 4
    assert found[11][0] > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_without_a_step_has_a_schedule(name: str) -> None:
    cfg = load_config(ZOO, {"SOLVER.LR_SCHEDULER_NAME": name})
    assert next(iter(rates(build_lr_scheduler(cfg, sgd(), 0))))[0] > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_takes_the_new_number_of_steps(name: str) -> None:
    cfg = load_config(ZOO, {"SOLVER.LR_SCHEDULER_NAME": name})
    first = build_lr_scheduler(cfg, sgd(), 6)
    list(itertools.islice(rates(first), 5))
    state = first.state_dict()
    assert state == pickle.loads(pickle.dumps(state)) == {"base_lrs": [0.01, 0.02], "last_epoch": 4}
    resumed = build_lr_scheduler(cfg, sgd(0.5), 12)
    resumed.load_state_dict(state)
    resumed.optimizer.step()
    resumed.step()
    expected = next(itertools.islice(rates(build_lr_scheduler(cfg, sgd(), 12)), 5, 6))
    assert [group["lr"] for group in resumed.optimizer.param_groups] == expected


def test_stretches_to_the_real_number_of_steps() -> None:
    cfg = load_config(ZOO, {})
    stretched = stretch_schedule(cfg, 900)
    assert (stretched.SOLVER.MAX_ITER, stretched.SOLVER.STEPS, stretched.SOLVER.WARMUP_ITERS) == (900, (600, 800), 10)
    assert len(list(itertools.islice(rates(build_lr_scheduler(cfg, sgd(), 1)), 1))) == 1
    assert stretch_schedule(cfg, math.inf).SOLVER == cfg.SOLVER == stretch_schedule(cfg, 90000).SOLVER


@pytest.mark.parametrize("name", SCHEDULES)
def test_scaling_is_that_of_auto_scale_workers(name: str) -> None:
    from detectron2.engine import DefaultTrainer
    from detectron2.projects.deeplab import build_lr_scheduler as schedule
    from detectron2.solver import build_optimizer as detectron2s

    overrides = {
        **TINY_OVERRIDES, "SOLVER.LR_SCHEDULER_NAME": name, "SOLVER.BASE_LR": 0.03, "SOLVER.BASE_LR_END": 0.001,
        "SOLVER.BIAS_LR_FACTOR": 2.0, "SOLVER.IMS_PER_BATCH": 16, "SOLVER.REFERENCE_WORLD_SIZE": 8,
        "SOLVER.MAX_ITER": 60,
    }  # fmt: skip
    recipe = load_recipe(ZOO, overrides)
    network = recipe.build_network(5, 255)
    theirs = DefaultTrainer.auto_scale_workers(load_config(ZOO, overrides), 3)
    scale = theirs.SOLVER.IMS_PER_BATCH / recipe.reference_batch
    assert (theirs.SOLVER.IMS_PER_BATCH, theirs.SOLVER.MAX_ITER, scale) == (6, 160, 0.375)
    ours = recipe.build_lr_scheduler(recipe.build_optimizer(network, scale), 160, scale)
    for found, expected in itertools.islice(
        zip(rates(ours), rates(schedule(theirs, detectron2s(theirs, network))), strict=True), 160
    ):
        assert found == expected
        assert max(found) == 2 * min(found) > 0


def test_an_unknown_schedule_is_refused_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'WarmupPoly', but one of WarmupMultiStepLR.* WarmupPolyLR is needed"):
        load_recipe(ZOO, {"SOLVER.LR_SCHEDULER_NAME": "WarmupPoly"})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"SOLVER.WEIGHT_DECAY_NORM": 0.02},
        {"SOLVER.BIAS_LR_FACTOR": 2.0},
        {"SOLVER.WEIGHT_DECAY_BIAS": 0.0},
        {"SOLVER.WEIGHT_DECAY_NORM": 0.02, "SOLVER.BIAS_LR_FACTOR": 2.0, "SOLVER.WEIGHT_DECAY_BIAS": 0.003},
        {"SOLVER.NESTEROV": True, "SOLVER.MOMENTUM": 0.8, "SOLVER.CLIP_GRADIENTS.ENABLED": True},
    ],
)
def test_parameter_groups_are_detectron2s(settings: dict[str, Any]) -> None:
    from detectron2.solver import build_optimizer as detectron2s

    overrides = {**TINY_OVERRIDES, "MODEL.BACKBONE.FREEZE_AT": 2, "MODEL.FPN.NORM": "SyncBN", **settings}
    cfg, network = load_config(ZOO, overrides), load_recipe(ZOO, overrides).build_network(5, 255)
    ours, theirs = build_optimizer(cfg, network), detectron2s(cfg, network)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in ours.param_groups) == len(trained) < len(list(network.parameters()))
    assert len(ours.param_groups) == len(theirs.param_groups)
    for found, expected in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert [id(parameter) for parameter in found.pop("params")] == [id(one) for one in expected.pop("params")]
        assert found == expected
