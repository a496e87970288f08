"""Parses the command line: dotted Detectron2 keys, the user's own classes, and a suggestion for every typo."""

import argparse
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from pytorch_lightning.cli import LightningArgumentParser

from lightning_seg.config_paths import with_paths_from
from lightning_seg.data.readers.labelled import CLASS_KEYS, spelled_out
from lightning_seg.data.transforms import describe_foreign
from lightning_seg.hints import did_you_mean, option_meant
from lightning_seg.imports import IMPORTS, beside, import_files_of, import_files_of_flags
from lightning_seg.lightning_internals import options_of, variable_of

OVERRIDES = "model.overrides"

_DOT = "\u2024"
"""Replaces the dots of a Detectron2 key inside jsonargparse, which would nest the key at each dot."""

_UNKNOWN_KEY = (
    re.compile(r"unrecognized arguments: -*(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Subcommand '[^']+' does not accept option '(?P<key>[^']+)'"),
)
_NO_MODEL = re.compile(r"required: (?:\w+\.)?model\.config\b")
_WRONG_CLASS = re.compile(r"class_path '(?P<path>[^']+)':\s+(?P<reason>(?!Parser key)\S[^\n]*)")
_FOREIGN_CLASS = re.compile(r"Import path (?P<path>\S+) does not correspond to a subclass of (?P<kind>\w+)")
_KEY = re.compile(r"Parser key \"([^\"]+)\"")
_GIVEN = re.compile(r"Given value: ([^\n]+)")
_SUBTYPES = re.compile(r"Subtypes: ([^\n]+)")
_NO_CLASS = re.compile(r"Expected a dot import path string: (\w+)")
_IN_LIST = re.compile(r"NestedArg\(key='\d+\.")
_STRAY_KEY = re.compile(r"'class_path': '[^']*', (?:'init_args': \{[^{}]*\}, )?'(?P<key>\w+)': ")
_UNKNOWN_OPTION = re.compile(r"Option '(?P<name>[^']+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'")


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

    @staticmethod
    def apply_config(parser: Any, cfg: Namespace, dest: str, value: Any) -> None:
        import_files_of(str(value))
        MergingConfigFile.reading = str(value)
        with _adding_up(cfg):
            ActionConfigFile.apply_config(parser, cfg, dest, value)
        MergingConfigFile.reading = None
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
        import_files_of_flags(args or ())
        arguments = args if args is None else escape_overrides(args)
        config = super().parse_args(arguments, namespace, *rest, **kwargs)
        _add_overrides(config, {} if namespace is None else _overrides(namespace))
        return config

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file; its paths that begin with ``./`` or ``../`` are relative to its folder."""
        file = Path(str(path)).expanduser().absolute()
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
        where = f"{MergingConfigFile.reading}: " if MergingConfigFile.reading else ""
        problem = f"{where}{_explain(message.replace(_DOT, '.'), parser)}"
        print(f"error: {problem}", file=sys.stderr)
        raise UsageError(problem)


def _explain(message: str, parser: argparse.ArgumentParser) -> str:
    """Shorten a message of jsonargparse to its cause, and add the nearest names to an unknown one."""
    if _IN_LIST.search(message) and (place := _KEY.search(message)):
        return (
            f"{place[1]} is a list: here, --{place[1]}.NAME changes its last entry, --{place[1]}+ adds one, and "
            f"--{place[1]} '[…]' replaces all; change others in the config"
        )
    for pattern in _UNKNOWN_KEY:
        if match := pattern.search(message):
            key = ".".join(part for part in (match.groupdict().get("group"), match["key"]) if part)
            options = (option.lstrip("-") for action in options_of(parser) for option in action.option_strings)
            return message + option_meant(key, options)
    if (place := _KEY.search(message)) and (cause := _explain_class(message)):
        return f"{place[1]}: {cause}"
    return _explain_union(message) or _NO_MODEL.sub(r"\g<0>, which the file of --config names", message)


def _explain_class(message: str) -> str | None:
    """What is wrong with the innermost ``class_path`` of a message; None if the message is not about a class."""
    if wrong := [*_WRONG_CLASS.finditer(message)]:
        path, reason = wrong[-1]["path"], wrong[-1]["reason"].strip()
        if option := _UNKNOWN_OPTION.search(reason):
            known = inspect.signature(pkgutil.resolve_name(path)).parameters
            return f"{path} has no option {option['name']!r}{did_you_mean(option['name'], known)}"
        if unknown := _UNKNOWN_CLASS.search(reason):
            return f"{reason}{did_you_mean(unknown['name'], vars(pkgutil.resolve_name(unknown['module'])))}"
        if reason.startswith("No module named"):
            reason += f"; a file of your own is named in data.imports: [{path.partition('.')[0]}.py]"
        return f"{path}: {reason}"
    if foreign := [*_FOREIGN_CLASS.finditer(message)]:
        path, kind = foreign[-1].groups()
        of_transforms = kind in ("BasicTransform", "BaseCompose")
        return describe_foreign(path) if of_transforms else f"{path} is no {kind}, which is needed there"
    return None


def _explain_union(message: str) -> str | None:
    """Say what a value should be, if jsonargparse lists every type that it is not; None for other messages."""
    key, given, types = (pattern.search(message) for pattern in (_KEY, _GIVEN, _SUBTYPES))
    if not (key and given and types):
        return None
    if (stray := _STRAY_KEY.search(given[1])) and stray["key"] not in CLASS_KEYS:
        near = did_you_mean(stray["key"], CLASS_KEYS)
        return f"{key[1]}: {stray['key']} stands beside class_path, where init_args and a reader's label_map may{near}"
    if unknown := _UNKNOWN_CLASS.search(message):
        known = vars(pkgutil.resolve_name(unknown["module"]))
        return f"{key[1]}: {unknown[0]}{did_you_mean(unknown['name'], known)}"
    if name := _NO_CLASS.search(message):
        names = _classes(re.findall(r"[\w.]+\.\w+", types[1]))
        return f"{key[1]}: {name[1]} is no known class: give its class_path{did_you_mean(name[1], names)}"
    if literals := re.findall(r"Literal\[(.*?)\]", message.partition("Errors:")[0]):
        return f"{key[1]} is {given[1]}, but one of {', '.join(literals)} is expected"
    return None


def _classes(bases: Iterable[str]) -> set[str]:
    """Names of the classes that fit one of some types, and of other classes in the packages of these types."""
    names: set[str] = set()
    for path in bases:
        try:
            open_classes = [pkgutil.resolve_name(path)]
            beside = vars(pkgutil.resolve_name(path.rsplit(".", 2)[0]))
        except (AttributeError, ImportError, ValueError):
            continue
        names |= {name for name, value in beside.items() if isinstance(value, type)}
        while open_classes:
            kind = open_classes.pop()
            names.add(getattr(kind, "__name__", ""))
            open_classes += type.__subclasses__(kind) if isinstance(kind, type) else []
    return names


def configured_by_environment(parser: Parser) -> bool:
    """Whether an environment variable names a config, for all commands or for one."""
    pattern = re.compile(rf"{re.escape(variable_of(parser))}([A-Z]+__)?CONFIG")
    return any(pattern.fullmatch(name) for name in os.environ)
