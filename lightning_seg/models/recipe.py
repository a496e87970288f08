"""What a Detectron2 config is translated to: all that the rest of the code asks of one, whatever its kind."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.models.config import config_of_values, leaves, read_config, with_overrides
from lightning_seg.models.lazy_recipe import LazyRecipe
from lightning_seg.models.weights import ConfigKeys
from lightning_seg.models.yaml_recipe import YamlRecipe


class Recipe(Protocol):
    """A network, its weights and how to train it.

    Attributes:
        notices: what a user should know, such as which parts of the config are not used.
        bgr: whether the network wants its channels in the order blue, green, red.
        weights: where the config says that pretrained weights are; "" for nowhere.
        reference_batch: samples per optimiser step that the config's learning rate is made for; None if it says none.
        reference_batch_key: what the config calls that.
        keys: how the config calls what weights may ask for.
        values: all that the file says, before any override, in plain values: with them a checkpoint does without the
            file. None where that cannot be said so.
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
        """The config's optimiser for the parameters that are trained, at the config's rate times ``lr_scale``.

        Without gradient clipping.
        """

    def build_lr_scheduler(self, optimizer: Optimizer, total_steps: float, lr_scale: float = 1.0) -> LRScheduler:
        """The config's schedule over so many optimiser steps, to be stepped after each; then the last rate holds.

        ``lr_scale`` is that of the optimiser: a final rate that the config gives in numbers stays as it is.
        """

    def schedule_problem(self) -> str | None:
        """Why the config's own schedule cannot be meant: a warm-up longer than the run; None where all is well."""

    @property
    def clips_gradients(self) -> bool:
        """Whether :meth:`clip_gradients` does anything."""

    def changed_keys(self) -> list[str]:
        """Dotted keys with another value than Detectron2's default; of a LazyConfig, all."""

    def unused(self, keys: Iterable[str], *, scales_rate: bool, own_optimizer: bool) -> dict[str, str]:
        """Which of the keys count for nothing, and the settings that replace each; "" where nothing does.

        Args:
            keys: dotted.
            scales_rate: whether the config's batch counts, for ``model.scale_lr``.
            own_optimizer: whether ``model.optimizer`` takes the place of the config's.
        """

    def clip_gradients(self, optimizer: Optimizer) -> None:
        """Clip gradients in place as the config says."""

    def warn_of_frozen_random(self) -> str | None:
        """What to say where random weights meet frozen layers; None where all is well."""


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
    values = dict(leaves(cfg.clone()))
    return YamlRecipe(with_overrides(cfg, overrides), values)


def record_config(config: str, recipe: Recipe) -> Any:
    """``model.config`` as a checkpoint keeps it: with all that the file says, where it can be said."""
    return config if recipe.values is None else {"file": config, "values": dict(recipe.values)}


def recorded_config(config: Any) -> tuple[str, Mapping[str, Any] | None]:
    """The name of the file, and what a checkpoint recorded of it; None where there is only the name."""
    return (str(config["file"]), config["values"]) if isinstance(config, Mapping) else (os.fspath(config), None)
