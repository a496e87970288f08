"""Describes a loss in plain values for a checkpoint, class and arguments as in a config, and builds it again."""

import importlib
from collections.abc import Mapping
from typing import Any

from lightning_seg.errors import CheckpointError
from lightning_seg.losses.criteria import Criterion

_PLAIN = (str, int, float, bool, type(None))


def describe_criterion(criterion: Any) -> dict[str, Any]:
    """``{"class_path": …, "init_args": {…}}`` of a loss; without ``init_args`` if these are no plain values.

    >>> from lightning_seg.losses import Dice
    >>> describe_criterion(Dice(smooth=2.0))
    {'class_path': 'lightning_seg.losses.criteria.Dice', 'init_args': {'smooth': 2.0}}
    """
    kind = criterion if callable(criterion) and hasattr(criterion, "__qualname__") else type(criterion)
    class_path = f"{kind.__module__}.{kind.__qualname__}"
    try:
        return {"class_path": class_path, "init_args": _plain(criterion.init_args)}
    except (AttributeError, TypeError):
        return {"class_path": class_path}


def restore_criterion(description: Mapping[str, Any]) -> Criterion:
    """Build the loss that :func:`describe_criterion` described, with its initial parameters.

    Raises:
        CheckpointError: if it cannot be built again: its class is not found, is no :class:`Criterion`, or was given
            more than plain values.
    """
    class_path = str(description.get("class_path"))
    remedy = "give it: load_from_checkpoint(path, criterion=…)"
    if "init_args" not in description:
        raise CheckpointError(f"the checkpoint's criterion {class_path} was not made of plain values alone: {remedy}")
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's criterion {class_path} is not found ({error}): {remedy}") from error
    if not (isinstance(kind, type) and issubclass(kind, Criterion)):  # checked before anything of it is called
        raise CheckpointError(f"the checkpoint's criterion {class_path} is no lightning_seg.losses.Criterion: {remedy}")
    criterion: Criterion = kind(**{name: _built(value) for name, value in description["init_args"].items()})
    return criterion


def _plain(value: Any) -> Any:
    if isinstance(value, Criterion):
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


def _built(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return restore_criterion(value)
    return [_built(part) for part in value] if isinstance(value, list) else value
