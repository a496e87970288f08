"""Runs the user's own files, which register parts with Detectron2 and hold classes that a config names."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_seg.config_paths import expanded, with_paths_from
from lightning_seg.errors import ConfigError, describe

IMPORTS = ("data.imports", "model.imports")
"""Settings that name the user's files."""

_imported: set[Path] = set()


def import_user_code(sources: Sequence[str], setting: str) -> None:
    """Import Python files and modules, each once in a process.

    A class of a file ``path/to/mine.py`` is then found as ``mine.Class``, unless another module has that name.

    Args:
        sources: paths that end in ``.py``, or dotted names of installed modules.
        setting: the setting that names them, for messages.

    Raises:
        ConfigError: if one does not exist or raises; names the file and the line.
    """
    for source in sources:
        path = Path(expanded(source)).resolve() if source.endswith(".py") else None
        if path is not None and not path.is_file():
            raise ConfigError(f"{setting} {source} does not exist (looked for {path})")
        try:
            if path is None:
                importlib.import_module(source)
            else:
                _import_file(path)
        except Exception as error:  # it is the user's code: anything may come
            raise ConfigError(f"{setting} {source} failed: {describe(error)}") from error


def import_files_of(config: str) -> None:
    """Import the user's files that a config names, before the classes in them are looked up.

    A config that cannot be read is ignored here; the parser will report it.
    """
    for key, sources in _imports_in(groups_of(config)):
        import_user_code([beside(source, config) for source in sources], key)


def groups_of(config: str) -> list[Any]:
    """What a config holds, and each of its groups, since a command's name may be around all; empty if unreadable."""
    path = Path(expanded(config)).absolute()
    try:
        content = yaml.safe_load(with_paths_from(path.parent, path.read_text(encoding="utf-8"), Path.cwd()))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [content, *content.values()] if isinstance(content, dict) else []


def import_files_of_flags(arguments: Sequence[str]) -> None:
    """Import the user's files that flags such as ``--data.imports FILE`` name."""
    flags = {f"--{key}{plus}": key for key in IMPORTS for plus in ("", "+")}
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = argument.partition("=")
        if name in flags:
            import_user_code(_as_sources(value if equals else following), flags[name])


def beside(source: str, config: str) -> str:
    """The path of a user's file: as it is given or, if there is no such file, relative to the config's folder."""
    there = Path(expanded(config)).parent / source
    return str(there) if not Path(expanded(source)).is_file() and there.is_file() else source


def _imports_in(groups: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    for group in groups:
        for key in IMPORTS:
            part, name = key.split(".")
            settings = group.get(part) if isinstance(group, dict) else None
            if isinstance(settings, dict):
                yield key, _as_sources(settings.get(name)) + _as_sources(settings.get(f"{name}+"))


def _as_sources(value: Any) -> list[str]:
    """Names of files and modules; empty if ``value`` is no list of texts, which the parser refuses."""
    try:
        value = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return []
    return [source for source in (value if isinstance(value, list) else [value]) if isinstance(source, str)]


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
