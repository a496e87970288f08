"""Builds the optimiser and the schedule of a training: the config's or the user's, with rates that differ by depth."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.errors import ConfigError
from lightning_seg.models.rates import Rates, refuse_levelled, split_groups, undecayed
from lightning_seg.models.recipe import Recipe
from lightning_seg.models.segmentor import Segmentor


class Optimisation:
    """Builds optimisers and schedules.

    Args:
        recipe: gives optimiser and schedule, unless others are given.
        rates: factors for the rates of the backbone.
        optimizer: makes an optimiser from parameters, and replaces the recipe's.
        lr_scheduler: makes a schedule from an optimiser, and replaces the recipe's.
        scale_lr: whether the rate of the recipe's optimiser is scaled with the global batch.

    Raises:
        ConfigError: if there is no rate to scale, or no batch to scale it by.
    """

    def __init__(
        self,
        recipe: Recipe,
        rates: Rates,
        optimizer: Callable[..., Optimizer] | None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None,
        *,
        scale_lr: bool,
    ) -> None:
        if scale_lr:
            _refuse_to_scale(recipe, own_optimizer=optimizer is not None)
        self.recipe = recipe
        self.rates = rates
        self.scale_lr = scale_lr
        self.make_optimizer = None if optimizer is None else _Shared(optimizer)
        self.make_lr_scheduler = None if lr_scheduler is None else _Shared(lr_scheduler)

    def lr_scale(self, global_batch: int) -> float:
        """The factor for the config's learning rate if an optimiser step has ``global_batch`` samples."""
        return global_batch / (self.recipe.reference_batch or 1) if self.scale_lr else 1.0

    def describe_lr_scale(self, global_batch: int) -> str:
        """The same factor in words."""
        recipe = self.recipe
        return f"the config's × global batch {global_batch} / {recipe.reference_batch_key} {recipe.reference_batch}"

    def build_optimizer(self, segmentor: Segmentor, lr_scale: float = 1.0) -> Optimizer:
        """Build an optimiser for all parameters that are trained; ``lr_scale`` only counts for the config's own."""
        if self.make_optimizer is None:
            optimizer = self.recipe.build_optimizer(segmentor.trained_parts(), lr_scale)
        else:
            optimizer = self.make_optimizer(
                parameter for parameter in segmentor.parameters() if parameter.requires_grad
            )
        spared = set() if self.rates.decay_norms else undecayed(segmentor)
        split_groups(optimizer, segmentor.network.backbone, self.rates, spared)
        return optimizer

    def build_lr_scheduler(self, optimizer: Optimizer, total_steps: float, lr_scale: float = 1.0) -> LRScheduler:
        """Build a schedule over ``total_steps`` optimiser steps; it must be stepped after each of them.

        ``lr_scale`` is that of the optimiser.

        Raises:
            ConfigError: if the user's schedule would undo the rates of the backbone.
        """
        if self.make_lr_scheduler is None:
            return self.recipe.build_lr_scheduler(optimizer, total_steps, lr_scale)
        before = [group["lr"] for group in optimizer.param_groups]
        scheduler: LRScheduler = self.make_lr_scheduler(optimizer)
        if self.rates.differ:
            refuse_levelled(scheduler, before)
        return scheduler

    def clip_gradients(self, optimizer: Optimizer, *, scaled: bool) -> None:
        """Clip as the config says.

        Args:
            optimizer: its parameters have the gradients.
            scaled: whether they are multiplied by a scale, against underflow in half precision.

        Raises:
            ConfigError: if the optimiser divides scaled gradients itself, which is too late for clipping.
        """
        if scaled and self.recipe.clips_gradients and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise ConfigError(
                f"SOLVER.CLIP_GRADIENTS would clip scaled gradients, since {type(optimizer).__name__} is fused and "
                "divides them itself under trainer.precision 16-mixed: choose bf16-mixed, or an optimiser without fused"
            )
        self.recipe.clip_gradients(optimizer)


class _Shared:
    """A function that copies of the module share; averaged weights are such a copy.

    The command line's function holds the command line itself, with the processes that it started, and cannot be copied.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __deepcopy__(self, _: Any) -> "_Shared":
        return self


def _refuse_to_scale(recipe: Recipe, *, own_optimizer: bool) -> None:
    if own_optimizer:
        raise ConfigError(
            "model.scale_lr scales the rate of the config's own optimiser, but model.optimizer is given: set its lr, "
            "or leave one of the two out"
        )
    if not recipe.reference_batch or recipe.reference_batch < 1:
        raise ConfigError(
            f"model.scale_lr needs {recipe.reference_batch_key} in model.config, the batch that its learning rate is "
            f"made for, but it is {recipe.reference_batch}: add it, or leave scale_lr out"
        )
