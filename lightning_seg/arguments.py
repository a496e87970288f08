"""Parses the command line: dotted Detectron2 keys, overrides that add up, and the user's own classes."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from pytorch_lightning.cli import LightningArgumentParser

from lightning_seg.config_paths import expanded, with_paths_from
from lightning_seg.data.readers.labelled import spelled_out
from lightning_seg.imports import IMPORTS, beside, groups_of, import_files_of, import_files_of_flags
from lightning_seg.lightning_internals import options_of, variable_of
from lightning_seg.usage import explain, unknown_key

OVERRIDES = "model.overrides"

_DOT = "\u2024"
"""Replaces the dots of a Detectron2 key inside jsonargparse, which would nest the key at each dot."""

_load = get_loader("yaml")
set_loader("yaml", lambda text: spelled_out(_load(text)), (yaml.YAMLError,))


def escape_overrides(arguments: Sequence[str]) -> list[str]:
    """Hide the dots of ``--model.overrides.A.B.C value`` from jsonargparse.

    >>> escape_overrides(["--model.overrides.A.B=1.5", "--trainer.max_steps", "3"])
    ['--model.overrides.A․B=1.5', '--trainer.max_steps', '3']
    """
    flag = f"--{OVERRIDES}."

    def escape(argument: str) -> str:
        if not argument.startswith(flag):
            return argument
        key, equals, value = argument.removeprefix(flag).partition("=")
        return flag + key.replace(".", _DOT) + equals + value

    return [escape(argument) for argument in arguments]


@contextmanager
def _adding_up(config: Namespace) -> Iterator[None]:
    """Add overrides that are set in the block to those from before it; jsonargparse would replace them all.

    A later value of a key wins. An explicit ``null`` removes all overrides.
    """
    before = _overrides(config)
    yield
    _add_overrides(config, before)


def _add_overrides(config: Namespace, before: Mapping[str, dict[str, Any] | None]) -> None:
    for name, later in _overrides(config).items():
        if later is not None:
            config[name] = {**(before.get(name) or {}), **later}


def _overrides(config: Namespace) -> dict[str, dict[str, Any] | None]:
    """The overrides in the settings of a command or of several commands, with the dots of their keys restored."""
    found = {}
    for name in (OVERRIDES, *(f"{key}.{OVERRIDES}" for key, value in vars(config).items() if key != "model")):
        if name in config:
            given = config.get(name)
            found[name] = (
                {key.replace(_DOT, "."): value for key, value in given.items()} if isinstance(given, dict) else None
            )
    return found


class MergingConfigFile(ActionConfigFile):
    """Reads a config file; its overrides add to those given before.

    Its ``imports`` run before its classes are looked up. Their paths may be relative to the file's folder.
    """

    reading: ClassVar[str | None] = None
    """The file that is being read, for errors."""
    files: ClassVar[list[str]] = []
    """Those that this command has read."""

    @staticmethod
    def apply_config(parser: Any, cfg: Namespace, dest: str, value: Any) -> None:
        import_files_of(str(value))
        MergingConfigFile.reading = str(value)
        with _adding_up(cfg):
            ActionConfigFile.apply_config(parser, cfg, dest, value)
        MergingConfigFile.reading = None
        MergingConfigFile.files.append(str(value))
        for key in IMPORTS:
            if isinstance(sources := cfg.get(key), list):
                cfg[key] = [beside(str(source), str(value)) for source in sources]


def _plain(value: Any) -> Any:
    """Replace devices and enumerations of texts by texts; some callbacks have them as defaults.

    jsonargparse cannot write them in a form that it reads again.
    """
    if isinstance(value, Namespace):
        return Namespace(**{key: _plain(each) for key, each in vars(value).items()})  # type: ignore[no-untyped-call]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if type(value) is list:
        return [_plain(each) for each in value]
    if isinstance(value, torch.device):
        return str(value)
    return value.value if isinstance(value, Enum) and isinstance(value, str) else value


def _add_up(action: argparse.Action) -> None:
    """Make an option add its overrides to those given before."""
    kind: Any = type(action)

    class Adding(kind):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if len(args) < 2:  # jsonargparse makes another action by calling one
                return super().__call__(*args, **kwargs)
            with _adding_up(args[1]):
                return super().__call__(*args, **kwargs)

    action.__class__ = Adding


def _file_with(key: str) -> str | None:
    """The last of the command's files that has a key; None if a flag has it."""
    for file in reversed(MergingConfigFile.files):
        if any(_has(group, key.split(".")) for group in groups_of(file)):
            return file
    return None


def _has(group: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(group, dict) or name not in group:
            return False
        group = group[name]
    return True


class UsageError(SystemExit):
    """Ends a command whose arguments cannot be read, with status 2; a caller in Python can catch it.

    Attributes:
        problem: the message; it has been printed.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(2)
        self.problem = problem


class Parser(LightningArgumentParser):
    """Lightning's parser with the features of this module's first line."""

    _read: Callable[[str], str] = str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def let_overrides_add_up(self) -> None:
        """Add up overrides of ``--model.overrides '{…}'`` and ``--model FILE``; those of variables always add up."""
        for action in options_of(self):
            if action.dest in (OVERRIDES, "model"):
                _add_up(action)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None, *rest: Any, **kwargs: Any
    ) -> Namespace:
        MergingConfigFile.reading, MergingConfigFile.files = None, []  # of an earlier command of this process
        import_files_of_flags(args or ())
        arguments = args if args is None else escape_overrides(args)
        config = super().parse_args(arguments, namespace, *rest, **kwargs)
        _add_overrides(config, {} if namespace is None else _overrides(namespace))
        return config

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file; its paths that begin with ``./`` or ``../`` are relative to its folder."""
        file = Path(expanded(str(path))).absolute()
        self._read = partial(with_paths_from, file.parent, working=Path.cwd())
        try:
            return super().parse_path(path, *args, **kwargs)
        finally:
            self._read = str

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        """Parse a text, after the change that :meth:`parse_path` has set for that of a file."""
        return super().parse_string(self._read(content), *args, **kwargs)

    def _load_env_vars(self, env: Any, defaults: bool) -> Namespace:
        """Read environment variables layer by layer; in jsonargparse, later ones would replace whole groups."""
        layers = [variable_of(self, action) for action in options_of(self) if action.dest in ("config", "model")]
        config = Namespace()  # type: ignore[no-untyped-call]
        for layer in [{name} for name in layers] + [set(env) - set(layers)]:
            found = super()._load_env_vars({name: env[name] for name in layer if name in env}, defaults)
            with _adding_up(config):
                config.update(found)
        return config

    def dump(self, cfg: Namespace, *args: Any, **kwargs: Any) -> str:
        return str(super().dump(_plain(cfg), *args, **kwargs)).replace(_DOT, ".")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and what may have been meant, without the usage, and exit with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        file = MergingConfigFile.reading
        if file is None and (key := unknown_key(message)):
            file = _file_with(key)
        where = f"{file}: " if file else ""
        problem = f"{where}{explain(message.replace(_DOT, '.'), parser)}"
        print(f"error: {problem}", file=sys.stderr)
        raise UsageError(problem)


def configured_by_environment(parser: Parser) -> bool:
    """Whether an environment variable names a config, for all commands or for one."""
    pattern = re.compile(rf"{re.escape(variable_of(parser))}([A-Z]+__)?CONFIG")
    return any(pattern.fullmatch(name) for name in os.environ)
