"""Runs the user's own files: they register parts with Detectron2, and hold classes that a config names."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import ConfigError, describe

_imported: set[Path] = set()


def import_user_code(sources: Sequence[str], setting: str) -> None:
    """Import Python files and modules, each once a process.

    The classes of a file ``path/to/mine.py`` are then found as ``mine.Class``, unless another module has that name.

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
    if path in _imported:
        return
    name = path.stem
    if not _is_free(path):  # `head.py` may exist several times, and `json.py` be its own
        name = f"user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
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
    _imported.add(path)


def _is_free(path: Path) -> bool:
    """Whether no other module has the name of a file."""
    if not path.stem.isidentifier() or path.stem in sys.modules:
        return False
    spec = importlib.util.find_spec(path.stem)
    return spec is None or (spec.origin is not None and Path(spec.origin).resolve() == path)
