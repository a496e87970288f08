"""Describes objects that a configuration chooses in plain values for a checkpoint: class and arguments; builds them."""

import contextlib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from lightning_seg.errors import CheckpointError

_PLAIN = (str, int, float, bool, type(None))


class Described:
    """Base of objects that a checkpoint can build again.

    Attributes:
        init_args: the arguments it was made with, by name; a checkpoint keeps them.
    """

    init_args: dict[str, Any]

    def __new__(cls, *arguments: Any, **settings: Any) -> "Described":
        described = super().__new__(cls)
        with contextlib.suppress(TypeError):  # a copy gets its own from the original; wrong arguments raise in __init__
            bound = inspect.signature(cls.__init__).bind(described, *arguments, **settings)
            named = dict(list(bound.arguments.items())[1:])
            for name, parameter in bound.signature.parameters.items():
                if parameter.kind is parameter.VAR_KEYWORD:  # **settings of a subclass, which it passes on
                    named |= named.pop(name, {})
            vars(described)["init_args"] = named
        return described


def describe(chosen: Any) -> dict[str, Any] | None:
    """``{"class_path": …, "init_args": {…}}``; without ``init_args`` if these are no plain values; None for None.

    >>> from lightning_seg.losses import Dice
    >>> describe(Dice(smooth=2.0))
    {'class_path': 'lightning_seg.losses.criteria.Dice', 'init_args': {'smooth': 2.0}}
    """
    if chosen is None:
        return None
    kind = chosen if callable(chosen) and hasattr(chosen, "__qualname__") else type(chosen)
    try:
        return {"class_path": _path_of(kind), "init_args": _plain(chosen.init_args)}
    except (AttributeError, TypeError):
        return {"class_path": _path_of(kind)}


def restore(description: Any, kind: type[Any], setting: str) -> Any:
    """Build the object that :func:`describe` described, in its initial state.

    Args:
        description: from the checkpoint; anything but a mapping, such as an object or None, is returned as it is.
        kind: the base class that the object and its parts must have.
        setting: name of the module's argument, for messages.

    Raises:
        CheckpointError: if it cannot be built again: its class is not found, is not of that kind, got arguments that
            are not plain values, or takes others by now.
    """
    if not isinstance(description, Mapping):
        return description
    class_path = str(description.get("class_path"))
    remedy = f"give it: load_from_checkpoint(path, {setting}=…)"
    if not isinstance(description.get("init_args"), Mapping):
        raise CheckpointError(f"the checkpoint's {setting} {class_path} was not made of plain values alone: {remedy}")
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's {setting} {class_path} is not found ({error}): {remedy}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):  # checked before anything of it is called
        public = f"{kind.__module__.rpartition('.')[0]}.{kind.__name__}"
        raise CheckpointError(f"the checkpoint's {setting} {class_path} is no {public}: {remedy}")
    arguments = {name: _built(value, kind, setting) for name, value in description["init_args"].items()}
    try:
        return found(**arguments)
    except TypeError as error:
        raise CheckpointError(
            f"the checkpoint's {setting} {class_path} is not made of {', '.join(arguments) or 'nothing'} any more "
            f"({error}): {remedy}"
        ) from error


def _path_of(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(value: Any) -> Any:
    if isinstance(value, Described):
        return {"class_path": _path_of(type(value)), "init_args": _plain(value.init_args)}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if type(value) not in _PLAIN:
        raise TypeError(type(value).__name__)
    return value


def _built(value: Any, kind: type[Any], setting: str) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return restore(value, kind, setting)
    return [_built(part, kind, setting) for part in value] if isinstance(value, list) else value
