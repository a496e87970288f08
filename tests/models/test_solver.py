"""Schedules over the trainer's real number of steps."""

import math
from typing import Any

import pytest
import torch

from lightning_seg.models.config import load_config
from lightning_seg.models.solver import build_lr_scheduler, stretch_schedule

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def rates(scheduler: Any, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    seen = []
    for step in range(steps):
        if step:
            scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    return seen


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"])
def test_as_detectron2_where_the_steps_are_its_own(name: str) -> None:
    from detectron2.solver import build_lr_scheduler as detectron2s

    cfg = load_config(
        ZOO,
        {"SOLVER.LR_SCHEDULER_NAME": name, "SOLVER.MAX_ITER": 40, "SOLVER.STEPS": [20, 30], "SOLVER.WARMUP_ITERS": 5},
    )
    found = []
    for build in (
        lambda optimizer: build_lr_scheduler(cfg, optimizer, 40),
        lambda optimizer: detectron2s(cfg, optimizer),
    ):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.SOLVER.BASE_LR)
        found.append(rates(build(optimizer), optimizer, 40))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"])
def test_the_last_rate_holds(name: str) -> None:
    cfg = load_config(ZOO, {"SOLVER.LR_SCHEDULER_NAME": name})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.SOLVER.BASE_LR)
    found = rates(build_lr_scheduler(cfg, optimizer, 12), optimizer, 15)
    assert found[11:] == [found[11]] * 4


def test_stretches_to_the_real_number_of_steps() -> None:
    cfg = load_config(ZOO, {})
    stretched = stretch_schedule(cfg, 900)
    assert (stretched.SOLVER.MAX_ITER, stretched.SOLVER.STEPS, stretched.SOLVER.WARMUP_ITERS) == (900, (600, 800), 10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.SOLVER.BASE_LR)
    assert len(rates(build_lr_scheduler(cfg, optimizer, 1), optimizer, 1)) == 1
    assert stretch_schedule(cfg, math.inf).SOLVER == cfg.SOLVER == stretch_schedule(cfg, 90000).SOLVER
