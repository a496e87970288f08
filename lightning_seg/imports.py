"""Runs the user's own files, which register heads, backbones and data sets with Detectron2."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import ConfigError


def import_user_code(sources: Sequence[str], setting: str) -> None:
    """Import Python files and modules, each once a process.

    Args:
        sources: paths that end in ``.py``, or dotted names of installed modules.
        setting: where they are named, for messages.

    Raises:
        ConfigError: if one does not exist or raises, naming the file and line at fault.
    """
    for source in sources:
        try:
            if source.endswith(".py"):
                _import_file(Path(source).expanduser().resolve())
            else:
                importlib.import_module(source)
        except Exception as error:  # it is the user's code: anything may come
            raise ConfigError(f"{setting} {source} failed: {type(error).__name__}: {error}{_line(error)}") from error


def _import_file(path: Path) -> None:
    # Under a name of its own, because `head.py` may exist several times.
    name = f"user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _line(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or isinstance(error, FileNotFoundError):
        return ""
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
