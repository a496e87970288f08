"""Turns a LazyConfig's tree into plain values, which a checkpoint can hold, and back without running a file."""

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from lightning_seg.errors import ConfigError

_NAMED, _PARTIAL, _MAPPING = "named", "partial", "mapping"
"""Kinds of values that are not plain: a class or function, a ``functools.partial``, a mapping with foreign keys."""

_KIND = "_recorded_"
"""The key that marks a mapping as one of these kinds."""

_SECTIONS = ("model", "optimizer", "lr_multiplier", "train")
"""The sections that a recipe is built from; in the others, such as data loaders, only plain values are recorded."""

_TRUSTED = (
    "detectron2.layers.", "detectron2.modeling.", "detectron2.projects.", "detectron2.solver.", "fvcore.common.",
    "fvcore.nn.", "lightning_seg.", "timm.layers.", "timm.models.", "torch.nn.", "torch.optim.",
)  # fmt: skip
"""Beginnings of the names of functions that a checkpoint may let us call; classes of layers may have any name."""


def values_of(tree: DictConfig) -> dict[str, Any] | None:
    """The contents of a tree, before references are followed.

    Returns:
        The plain values. None if ``model`` holds something that has no name outside the file, such as a lambda, or that
        :func:`tree_of` would refuse. In other sections, such a value, or the value that contains it, is left out.
    """
    content = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(content, dict)
    recorded: dict[str, Any] = {}
    for key, part in content.items():
        called = key in _SECTIONS
        try:
            if called:
                for target in _targets(part):
                    _trusted(target)
            recorded[str(key)] = _recorded(part, called) if key == "model" else _without_unnamed(part, called)
        except (TypeError, ConfigError):
            if key == "model":
                return None
    return recorded


def tree_of(config: str, values: Mapping[str, Any]) -> DictConfig:
    """Restore the tree that was recorded.

    Args:
        config: the file that it came from, for messages.
        values: what :func:`values_of` returned.

    Raises:
        ConfigError: if it names a class or function that does not exist, or that belongs neither to a network nor to
            its training.
    """
    try:
        content = {key: _restored(part) for key, part in values.items()}
        for target in _targets(content):
            _trusted(target)
    except (ImportError, AttributeError, ValueError, ConfigError) as error:
        raise ConfigError(f"the checkpoint's record of model.config {config} cannot be used here: {error}") from error
    return DictConfig(content, flags={"allow_objects": True})


def _recorded(value: Any, called: bool) -> Any:
    """A value as plain values; raises a TypeError if that is impossible."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_recorded(part, called) for part in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _recorded(part, called) for key, part in value.items()}
        pairs = [[_recorded(key, called), _recorded(part, called)] for key, part in value.items()]
        return {_KIND: _MAPPING, "pairs": pairs}
    if called and isinstance(value, functools.partial):
        parts = {"args": _recorded(list(value.args), True), "keywords": _recorded(value.keywords, True)}
        return {_KIND: _PARTIAL, "name": _name_of(value.func), **parts}
    if called and callable(value):
        return {_KIND: _NAMED, "name": _name_of(value)}
    raise TypeError(type(value).__name__)


def _without_unnamed(value: Any, called: bool) -> Any:
    """The same, without the parts that plain values cannot express."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        parts = {key: _without_unnamed(part, called) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part is not None or value[key] is None}
    try:
        return _recorded(value, called)
    except TypeError:
        return None


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get(_KIND)
    if kind == _NAMED:
        return _locate(value["name"])
    if kind == _PARTIAL:
        return functools.partial(_locate(value["name"]), *_restored(value["args"]), **_restored(value["keywords"]))
    if kind == _MAPPING:
        return {_restored(key): _restored(part) for key, part in value["pairs"]}
    return {key: _restored(part) for key, part in value.items()}


def _name_of(value: Any) -> str:
    """The dotted name of a class or function; raises a TypeError if it has none, because the file itself defines it."""
    name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}"
    try:
        found = _locate(name)
    except (ImportError, AttributeError, ValueError):
        raise TypeError(name) from None
    if found is not value:
        raise TypeError(name)
    return name


def _locate(name: str) -> Any:
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if count == 1 or error.name is None or not module.startswith(error.name):
                raise
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ValueError(f"{name!r} is no dotted name")


def _targets(value: Any) -> Iterator[Any]:
    """Everything that would be called."""
    if isinstance(value, functools.partial):
        yield value.func
        yield from _targets([*value.args, value.keywords])
    elif isinstance(value, Mapping):
        yield from ([value["_target_"]] if "_target_" in value else [])
        yield from _targets([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _targets(part)
    elif callable(value):
        yield value


def _trusted(target: Any) -> None:
    """Refuse to call anything that builds no network, since a checkpoint may come from anywhere.

    Raises:
        ConfigError: names it.
    """
    found = target if not isinstance(target, str) else _locate(target) if target.startswith(_TRUSTED) else None
    name = target if isinstance(target, str) else _name_of(target)
    if found is None or not (name.startswith(_TRUSTED) or (isinstance(found, type) and issubclass(found, nn.Module))):
        raise ConfigError(f"it calls {name}, which is no layer and none of Detectron2's, torch's or timm's own parts")
