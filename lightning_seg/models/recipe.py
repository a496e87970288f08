"""Translates a Detectron2 config of either kind into a recipe, which is all that the rest of the code sees of it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.models.config import config_of_values, read_config, recorded_values, with_overrides
from lightning_seg.models.lazy_recipe import LazyRecipe
from lightning_seg.models.weights import ConfigKeys
from lightning_seg.models.yaml_recipe import YamlRecipe


class Recipe(Protocol):
    """A network, its weights and how to train it.

    Attributes:
        notices: what a user should know, such as which parts of the config are not used.
        bgr: whether the network wants its channels in the order blue, green, red.
        weights: the config's path or address of pretrained weights; "" if it names none.
        reference_batch: how many samples per optimiser step the config's learning rate is made for; None if unknown.
        reference_batch_key: the config's key for that.
        keys: the config's names for what weights may ask for.
        values: the contents of the file, before any override, in plain values. A checkpoint with them needs no file.
            None if plain values cannot express them.
    """

    @property
    def notices(self) -> Sequence[str]: ...

    bgr: bool
    weights: str
    reference_batch: int | None
    reference_batch_key: str

    @property
    def values(self) -> Mapping[str, Any] | None: ...

    @property
    def keys(self) -> ConfigKeys: ...

    def build_network(self, num_classes: int, ignore_index: int) -> Any:
        """A ``SemanticSegmentor`` on the CPU; Any, because Detectron2 has no types."""

    def build_optimizer(self, network: nn.Module, lr_scale: float = 1.0) -> Optimizer:
        """Build the config's optimiser for the parameters that are trained, at the config's rate times ``lr_scale``.

        It does not clip gradients.
        """

    def build_lr_scheduler(self, optimizer: Optimizer, total_steps: float, lr_scale: float = 1.0) -> LRScheduler:
        """Build the config's schedule over ``total_steps`` optimiser steps; afterwards the last rate stays.

        It must be stepped after each optimiser step. ``lr_scale`` is that of the optimiser; it does not change a final
        rate that the config gives as a number.
        """

    def schedule_problem(self) -> str | None:
        """Why the config's own schedule cannot be right: its warm-up is longer than the run; None if it is right."""

    @property
    def clips_gradients(self) -> bool:
        """Whether :meth:`clip_gradients` does anything."""

    def changed_keys(self) -> list[str]:
        """Dotted keys whose values are not Detectron2's defaults; all keys of a LazyConfig."""

    def unused(self, keys: Iterable[str], *, scales_rate: bool, own_optimizer: bool) -> dict[str, str]:
        """Which of the keys have no effect, and the settings that replace each; "" if nothing replaces it.

        Args:
            keys: dotted.
            scales_rate: whether ``model.scale_lr`` is set, which uses the config's batch.
            own_optimizer: whether ``model.optimizer`` replaces the config's.
        """

    def clip_gradients(self, optimizer: Optimizer) -> None:
        """Clip gradients in place as the config says."""

    def warn_of_frozen_random(self) -> str | None:
        """A warning that frozen layers would stay random; None if none would."""


def load_recipe(config: str, overrides: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> Recipe:
    """Read a Detectron2 config with overrides. **A ``.py`` file is run**: only give one that you trust.

    Args:
        config: a YAML file, a LazyConfig file (``.py``), or the name of either in Detectron2's model zoo, such as
            ``Misc/semantic_R_50_FPN_1x.yaml`` or ``COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py``.
        overrides: dotted keys of that file, such as ``MODEL.RESNETS.DEPTH`` or ``optimizer.lr``, and their values.
        values: a checkpoint's record of the file, which is then not read.

    Raises:
        DependencyError: if Detectron2, or timm for a timm backbone, is not installed.
        ConfigError: if the file cannot be read, an override is wrong, or the config is for another kind of model.
    """
    if config.endswith(".py"):
        return LazyRecipe(config, overrides, values)
    cfg = read_config(config) if values is None else config_of_values(config, values)
    recorded = recorded_values(cfg)
    return YamlRecipe(with_overrides(cfg, overrides), recorded)


def record_config(config: str, recipe: Recipe) -> Any:
    """``model.config`` for a checkpoint, with the contents of the file if plain values can express them."""
    return config if recipe.values is None else {"file": config, "values": dict(recipe.values)}


def recorded_config(config: Any) -> tuple[str, Mapping[str, Any] | None]:
    """The name of the file, and the contents that a checkpoint recorded; None if it recorded only the name."""
    return (str(config["file"]), config["values"]) if isinstance(config, Mapping) else (os.fspath(config), None)
