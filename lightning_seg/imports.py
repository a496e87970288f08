"""Runs the user's own files, which register heads, backbones and data sets with Detectron2."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import ConfigError, describe


def import_user_code(sources: Sequence[str], setting: str) -> None:
    """Import Python files and modules, each once a process.

    Args:
        sources: paths that end in ``.py``, or dotted names of installed modules.
        setting: where they are named, for messages.

    Raises:
        ConfigError: if one does not exist or raises, naming the file and line at fault.
    """
    for source in sources:
        path = Path(source).expanduser().resolve() if source.endswith(".py") else None
        if path is not None and not path.is_file():
            raise ConfigError(f"{setting} {source} does not exist (looked for {path})")
        try:
            if path is None:
                importlib.import_module(source)
            else:
                _import_file(path)
        except Exception as error:  # it is the user's code: anything may come
            raise ConfigError(f"{setting} {source} failed: {describe(error)}") from error


def _import_file(path: Path) -> None:
    # Under a name of its own, because `head.py` may exist several times.
    name = f"user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
