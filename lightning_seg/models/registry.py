"""Names that must be in one of Detectron2's registries."""

import difflib
from typing import Any

from lightning_seg.errors import ConfigError


def require_registered(key: str, name: str, registry: Any) -> None:
    """Raise a ConfigError that lists what there is unless the registry has ``name``, the value of ``key``."""
    known = [entry for entry, _ in registry]
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? There " if close else "there "
    raise ConfigError(
        f"{key} is {name!r}, which is not registered: {hint}are {', '.join(sorted(known))}, and what files of your own "
        "register (model.imports)"
    )
