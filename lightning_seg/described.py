"""Objects that a configuration chooses, as plain values: class and arguments, so that a checkpoint can hold them."""

import contextlib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from lightning_seg.errors import CheckpointError

_PLAIN = (str, int, float, bool, type(None))

Kind = TypeVar("Kind", bound="Described")


class Described:
    """Base of what a checkpoint gives back.

    Attributes:
        init_args: what it was made of, by name, as a checkpoint keeps it.
    """

    init_args: dict[str, Any]

    def __new__(cls, *arguments: Any, **settings: Any) -> "Described":
        described = super().__new__(cls)
        with contextlib.suppress(
            TypeError
        ):  # of copies, which get theirs from the original; of wrong ones, __init__ says
            bound = inspect.signature(cls.__init__).bind(described, *arguments, **settings)
            vars(described)["init_args"] = dict(list(bound.arguments.items())[1:])
        return described


def describe(chosen: Any) -> dict[str, Any] | None:
    """``{"class_path": …, "init_args": {…}}``; without ``init_args`` where these are no plain values; of None: None.

    >>> from lightning_seg.losses import Dice
    >>> describe(Dice(smooth=2.0))
    {'class_path': 'lightning_seg.losses.criteria.Dice', 'init_args': {'smooth': 2.0}}
    """
    if chosen is None:
        return None
    kind = chosen if callable(chosen) and hasattr(chosen, "__qualname__") else type(chosen)
    class_path = f"{kind.__module__}.{kind.__qualname__}"
    try:
        return {"class_path": class_path, "init_args": _plain(chosen.init_args)}
    except (AttributeError, TypeError):
        return {"class_path": class_path}


def restore(description: Mapping[str, Any], kind: type[Kind], setting: str) -> Kind:
    """What :func:`describe` described, as it is at first.

    Args:
        description: of the checkpoint.
        kind: base class of what is allowed, for the whole and for its parts.
        setting: name of the module's argument, for messages.

    Raises:
        CheckpointError: if it cannot be built again: its class is not found, is none of that kind, or was given more
            than plain values.
    """
    class_path = str(description.get("class_path"))
    remedy = f"give it: load_from_checkpoint(path, {setting}=…)"
    if "init_args" not in description:
        raise CheckpointError(f"the checkpoint's {setting} {class_path} was not made of plain values alone: {remedy}")
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's {setting} {class_path} is not found ({error}): {remedy}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):  # before anything of it is called
        public = f"{kind.__module__.rpartition('.')[0]}.{kind.__name__}"
        raise CheckpointError(f"the checkpoint's {setting} {class_path} is no {public}: {remedy}")
    return found(**{name: _built(value, kind, setting) for name, value in description["init_args"].items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Described):
        return {
            "class_path": f"{type(value).__module__}.{type(value).__qualname__}",
            "init_args": _plain(value.init_args),
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if type(value) not in _PLAIN:
        raise TypeError(type(value).__name__)
    return value


def _built(value: Any, kind: type[Kind], setting: str) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return restore(value, kind, setting)
    return [_built(part, kind, setting) for part in value] if isinstance(value, list) else value
