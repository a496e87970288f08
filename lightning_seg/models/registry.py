"""Checks names against Detectron2's registries."""

from typing import Any

from lightning_seg.errors import ConfigError
from lightning_seg.hints import did_you_mean


def require_registered(key: str, name: str, registry: Any) -> None:
    """Raise a ConfigError that lists the registered names unless ``name``, the value of ``key``, is one of them."""
    known = [entry for entry, _ in registry]
    if name in known:
        return
    raise ConfigError(
        f"{key} is {name!r}, which is not registered{did_you_mean(name, known) or '.'} There are "
        f"{', '.join(sorted(known))}, and what files of your own register (model.imports)"
    )
