"""Turns a Detectron2 LazyConfig file, which is Python code, into a recipe.

It reads ``model``, ``optimizer``, ``lr_multiplier`` and ``train.init_checkpoint``; for a training without an end also
``train.max_iter``, and for ``model.scale_lr`` also ``dataloader.train.total_batch_size``. The groups data and trainer
replace the rest of the file.
"""

import builtins
import math
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.errors import ConfigError, LightningSegError, describe
from lightning_seg.models.config import find_config, refuse_key, require_detectron2
from lightning_seg.models.lazy_values import tree_of, values_of
from lightning_seg.models.solver import HoldLast
from lightning_seg.models.unused import LAZY_REPLACED, replacement
from lightning_seg.models.weights import LAZY_KEYS

DATA_KEYS = {
    "model.sem_seg_head.num_classes": "data.classes",
    "model.sem_seg_head.ignore_value": "data.ignore_index",
}
"""Keys that settings of the data decide, and these settings."""

_PARTS = {"backbone": DictConfig, "sem_seg_head": DictConfig, "pixel_mean": ListConfig, "pixel_std": ListConfig}
"""The parts of ``model`` that are used, and their types; ``input_format``, the order of channels, is optional."""


class LazyRecipe:
    """Implements :class:`lightning_seg.models.recipe.Recipe`. **The file is run**: it must be one to trust.

    Args:
        config: a path, or a name in Detectron2's model zoo, such as ``common/models/panoptic_fpn.py``.
        overrides: dotted keys that the file has, such as ``optimizer.lr``; each value replaces that of the file.
        values: a checkpoint's record of the file, which is then not read.

    Raises:
        DependencyError: if Detectron2 is not installed.
        ConfigError: if the file does not exist or fails, an override names no key, or the model has no semantic head.
    """

    keys = LAZY_KEYS
    reference_batch_key = "dataloader.train.total_batch_size"

    def __init__(self, config: str, overrides: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> None:
        require_detectron2()
        path = find_config(config) if values is None else Path(config)
        self._tree = _load(path) if values is None else tree_of(config, values)
        self.values: Mapping[str, Any] | None = values_of(self._tree)
        for key, value in overrides.items():
            _override(self._tree, key, value)
        try:
            model = self._tree.get("model")
            _refuse_other_model(path, model)
            notice = _dropped(model)
            self.notices = () if notice is None else (notice,)
            self.bgr = _is_bgr(model)
            self.weights = str(OmegaConf.select(self._tree, "train.init_checkpoint", default=""))
            self.reference_batch: int | None = OmegaConf.select(self._tree, self.reference_batch_key)
        except (AttributeError, ValueError) as error:  # OmegaConf raises them, for example for a broken reference
            raise ConfigError(f"model.config {path} cannot be resolved: {error}") from error

    def build_network(self, num_classes: int, ignore_index: int) -> Any:
        from detectron2.config import instantiate
        from detectron2.modeling import SemanticSegmentor

        model = deepcopy(self._tree).model
        try:
            model.sem_seg_head.num_classes = num_classes
            model.sem_seg_head.ignore_value = ignore_index
            return SemanticSegmentor(
                backbone=instantiate(model.backbone),
                sem_seg_head=instantiate(model.sem_seg_head),
                pixel_mean=list(model.pixel_mean),
                pixel_std=list(model.pixel_std),
            )
        except LightningSegError:
            raise
        except Exception as error:  # it is the user's code: anything may come
            raise ConfigError(f"Detectron2 refuses this model: {describe(error)}") from error

    def build_optimizer(self, network: nn.Module, lr_scale: float = 1.0) -> Optimizer:
        """Build the file's ``optimizer`` for the network, its ``params.model``, and multiply its rates.

        Raises:
            ConfigError: if the file has no optimiser, or it fails.
        """
        from detectron2.config import instantiate

        section = deepcopy(self._tree).get("optimizer")
        if not isinstance(section, DictConfig) or not isinstance(section.get("params"), DictConfig):
            raise ConfigError(
                "model.config has no `optimizer` with `params`: give model.optimizer, or add one to the file, such as "
                "those of common/optim.py in Detectron2's model zoo"
            )
        try:
            section.params.model = network
            optimizer = instantiate(section)
        except Exception as error:  # it is the user's code: anything may come
            raise ConfigError(f"optimizer of model.config fails: {type(error).__name__}: {error}") from error
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(f"optimizer of model.config gives a {type(optimizer).__name__}, not a torch Optimizer")
        for settings in (optimizer.defaults, *optimizer.param_groups):
            for name, value in settings.items():
                if isinstance(value, ListConfig):  # Adam's betas: checkpoints could not be loaded safely
                    settings[name] = tuple(value)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * lr_scale
        return optimizer

    def build_lr_scheduler(self, optimizer: Optimizer, total_steps: float, lr_scale: float = 1.0) -> LRScheduler:
        """Build the file's ``lr_multiplier``, a function of the fraction of the run; without one the rate is constant.

        It multiplies the optimiser's rates, scaled or not.
        """
        from detectron2.config import instantiate
        from detectron2.solver import LRMultiplier
        from fvcore.common.param_scheduler import ConstantParamScheduler, ParamScheduler

        section = self._tree.get("lr_multiplier")
        steps = OmegaConf.select(self._tree, "train.max_iter") if math.isinf(total_steps) else max(1, int(total_steps))
        if section is None:
            multiplier, steps = ConstantParamScheduler(1.0), steps or 1
        elif steps is None:
            raise ConfigError("lr_multiplier of model.config needs an end: set trainer.max_steps or trainer.max_epochs")
        else:
            try:
                multiplier = instantiate(section)
            except Exception as error:  # it is the user's code: anything may come
                raise ConfigError(f"lr_multiplier of model.config fails: {type(error).__name__}: {error}") from error
            if not isinstance(multiplier, ParamScheduler):
                raise ConfigError(
                    f"lr_multiplier of model.config gives a {type(multiplier).__name__}, but one of "
                    "fvcore.common.param_scheduler, or WarmupParamScheduler of detectron2.solver, is needed"
                )
        return HoldLast(LRMultiplier(optimizer, multiplier, steps), steps)

    def schedule_problem(self) -> str | None:
        length = OmegaConf.select(self._tree, "lr_multiplier.warmup_length")
        if not isinstance(length, int | float) or length < 1:
            return None
        return f"lr_multiplier.warmup_length is {length}, a fraction of the run: the run would be all warm-up"

    clips_gradients = False

    def changed_keys(self) -> list[str]:
        return list(_leaves(self._tree))

    def unused(self, keys: Iterable[str], *, scales_rate: bool, own_optimizer: bool) -> dict[str, str]:
        replaced = {key: name for key in keys if (name := replacement(key, LAZY_REPLACED)) is not None}
        if scales_rate:
            replaced.pop(self.reference_batch_key, None)
        if own_optimizer:
            replaced |= {key: "it in model.optimizer" for key in keys if key.startswith("optimizer.")}
        return replaced

    def clip_gradients(self, optimizer: Optimizer) -> None:
        """Do nothing: Detectron2's LazyConfig training does not clip; ``trainer.gradient_clip_val`` does."""

    def warn_of_frozen_random(self) -> str | None:
        keys = [key for key in _leaves(self._tree) if key.startswith("model.backbone.")]
        frozen = [
            f"{key} {value}"
            for key, value in ((key, OmegaConf.select(self._tree, key)) for key in keys)
            if (key.endswith(".freeze_at") and isinstance(value, int) and value > 0)
            or (key.endswith("norm") and value == "FrozenBN")
        ]
        if not frozen:
            return None
        return (
            f"the backbone starts from random weights, but {' and '.join(frozen)} would keep them random: "
            "override them with 0 and BN, or give model.weights"
        )


def _load(path: Path) -> DictConfig:
    """Run the file.

    Raises:
        ConfigError: names the file and the line where it fails.
    """
    importer = builtins.__import__
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
            from detectron2.config import LazyConfig

            return cast(DictConfig, LazyConfig.load(str(path)))
    except SyntaxError as error:  # Detectron2 names the file, which may be an imported one; the cause has the line
        cause = error.__cause__ if isinstance(error.__cause__, SyntaxError) else error
        raise ConfigError(f"model.config {path}: {error.msg} Line {cause.lineno}: {cause.msg}") from error
    except Exception as error:  # it is the user's code: anything may come
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise ConfigError(f"model.config {path}{where}: {type(error).__name__}: {error}") from error
    finally:
        builtins.__import__ = importer  # if the file raises, Detectron2 leaves its own importer


def _override(tree: DictConfig, key: str, value: Any) -> None:
    if key in DATA_KEYS:
        raise ConfigError(f"model.overrides.{key} follows from {DATA_KEYS[key]}: set that instead")
    refuse_key(key, list(_leaves(tree)))
    OmegaConf.update(tree, key, value, merge=False)


def _leaves(tree: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted keys; a list or a reference counts as one value."""
    for key in map(str, tree):
        value = None if OmegaConf.is_interpolation(tree, key) or OmegaConf.is_missing(tree, key) else tree.get(key)
        if isinstance(value, DictConfig) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _refuse_other_model(path: Path, model: Any) -> None:
    if not isinstance(model, DictConfig):
        raise ConfigError(
            f"model.config {path} has no `model`: take a file that describes one, such as "
            "common/models/panoptic_fpn.py of Detectron2's model zoo"
        )
    missing = [part for part, kind in _PARTS.items() if not isinstance(model.get(part), kind)]
    if "sem_seg_head" in missing:
        raise ConfigError(
            f"model of model.config {path} is a {_name(model)} without sem_seg_head, and how to segment with its "
            "backbone cannot be guessed: add model.sem_seg_head to the file, as common/models/panoptic_fpn.py of "
            "Detectron2's model zoo does"
        )
    if missing:
        raise ConfigError(
            f"model of model.config {path} lacks {', '.join(missing)}: a {_name(model)} needs {', '.join(_PARTS)}"
        )


def _dropped(model: DictConfig) -> str | None:
    """A notice of the model's parts that a ``SemanticSegmentor`` does not use; None if it uses all."""
    dropped = [str(key) for key in model if key not in (*_PARTS, "_target_", "input_format")]
    if not dropped and _name(model) == "SemanticSegmentor":
        return None
    return f"{_name(model)}: backbone and semantic head are used, {', '.join(dropped) or 'its own forward'} dropped"


def _name(model: DictConfig) -> str:
    target = model.get("_target_")
    return str(getattr(target, "__name__", target)).rpartition(".")[2]


def _is_bgr(model: DictConfig) -> bool:
    """Whether the model wants BGR: Detectron2's LazyConfig models do unless ``input_format`` says otherwise."""
    order = model.get("input_format", "BGR")
    if order not in ("RGB", "BGR"):
        raise ConfigError(f"model.input_format is {order!r}, but RGB or BGR is needed")
    return bool(order == "BGR")
