"""Builds Detectron2's optimiser and schedule, stretched to the number of steps that the trainer runs."""

import math
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:
    from detectron2.config import CfgNode


SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "WarmupPolyLR")
"""The values that ``SOLVER.LR_SCHEDULER_NAME`` may have."""


def build_optimizer(cfg: "CfgNode", network: nn.Module) -> Optimizer:
    """The optimiser and parameter groups of ``detectron2.solver.build_optimizer``, without its gradient clipping.

    Detectron2 clips at the start of ``step``. Lightning computes the gradients inside ``step``, so this would silently
    clip nothing: see :func:`clip_gradients`.
    """
    from detectron2.solver import build_optimizer as build

    cfg = cfg.clone()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    return cast(Optimizer, build(cfg, network))


def clip_gradients(cfg: "CfgNode", optimizer: Optimizer) -> None:
    """Clip as ``SOLVER.CLIP_GRADIENTS`` says: each parameter's gradient by itself, by value or by norm.

    The rule is that of ``detectron2/solver/build.py``. If it is not enabled, nothing happens.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            if clip.CLIP_TYPE == "value":
                nn.utils.clip_grad_value_(parameter, clip.CLIP_VALUE)
            else:
                nn.utils.clip_grad_norm_(parameter, clip.CLIP_VALUE, clip.NORM_TYPE)


def build_lr_scheduler(cfg: "CfgNode", optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """The schedule of ``detectron2.solver.build_lr_scheduler``, or DeepLab's, stretched to ``total_steps``.

    It must be stepped after every optimiser step. After the last step its rate stays; Detectron2's schedules raise.

    Args:
        cfg: its ``SOLVER`` is written for ``SOLVER.MAX_ITER`` steps.
        optimizer: its rates are scheduled.
        total_steps: of the whole training; infinity leaves the config's own number.
    """
    from detectron2.projects.deeplab import build_lr_scheduler as build

    stretched = stretch_schedule(cfg, total_steps)
    return HoldLast(build(stretched, optimizer), stretched.SOLVER.MAX_ITER)


def schedule_problem(cfg: "CfgNode") -> str | None:
    """Why the schedule cannot be right: its warm-up is longer than ``SOLVER.MAX_ITER``; None if it is right."""
    solver = cfg.SOLVER
    if solver.WARMUP_ITERS < solver.MAX_ITER:
        return None
    return (
        f"SOLVER.WARMUP_ITERS is {solver.WARMUP_ITERS} of SOLVER.MAX_ITER {solver.MAX_ITER} steps: the schedule "
        "is stretched to the run, which would be all warm-up"
    )


class HoldLast(LRScheduler):
    """Wraps one of Detectron2's schedules, and keeps the rate of its last step; ``WarmupPolyLR`` goes to 0 and raises.

    A checkpoint holds the step that was reached, but not the schedule, which a resumed run may stretch again.
    """

    def __init__(self, schedule: LRScheduler, num_steps: int) -> None:
        self.schedule = schedule
        self.last = num_steps - 1
        super().__init__(schedule.optimizer)

    def get_lr(self) -> Any:
        self.schedule.base_lrs, self.schedule.last_epoch = self.base_lrs, min(self.last_epoch, self.last)
        return self.schedule.get_lr()

    def state_dict(self) -> dict[str, Any]:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}


def scale_rate(cfg: "CfgNode", scale: float) -> "CfgNode":
    """Multiply ``BASE_LR`` and no other rate, as Detectron2's ``DefaultTrainer.auto_scale_workers`` does."""
    cfg = cfg.clone()
    cfg.SOLVER.BASE_LR = cfg.SOLVER.BASE_LR * scale
    return cfg


def stretch_schedule(cfg: "CfgNode", total_steps: float) -> "CfgNode":
    """Scale ``MAX_ITER``, ``STEPS`` and ``WARMUP_ITERS`` to another number of steps.

    The rounding is that of Detectron2's ``DefaultTrainer.auto_scale_workers``. If ``total_steps`` is ``MAX_ITER``,
    nothing changes.
    """
    cfg = cfg.clone()
    if math.isinf(total_steps):
        return cfg
    scale = total_steps / cfg.SOLVER.MAX_ITER
    cfg.SOLVER.MAX_ITER = max(1, int(total_steps))  # also of a run without a step
    # In a very short run, milestones meet each other or the run's end; Detectron2 refuses that.
    milestones = {round(step * scale) for step in cfg.SOLVER.STEPS}
    cfg.SOLVER.STEPS = tuple(sorted(step for step in milestones if 0 < step < cfg.SOLVER.MAX_ITER))
    cfg.SOLVER.WARMUP_ITERS = round(cfg.SOLVER.WARMUP_ITERS * scale)
    return cfg
