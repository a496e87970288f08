"""The command line's parser: dotted Detectron2 keys, the user's own classes, and a suggestion for every typo."""

import argparse
import difflib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import ActionConfigFile, Namespace
from pytorch_lightning.cli import LightningArgumentParser

from lightning_seg.data.transforms import describe_foreign
from lightning_seg.imports import import_user_code

OVERRIDES = "model.overrides"
IMPORTS = ("data.imports", "model.imports")

_DOT = "\u2024"
"""Stands for the dots of a Detectron2 key while jsonargparse, which would nest the key at each dot, has it."""

_UNKNOWN_KEY = (
    re.compile(r"unrecognized arguments: -*(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Subcommand '[^']+' does not accept option '(?P<key>[^']+)'"),
)
_KEY = re.compile(r"Parser key \"(?P<key>[^\"]+)\"")
_WRONG_CLASS = re.compile(r"class_path '(?P<path>[^']+)':\s+(?P<reason>(?!Parser key)\S[^\n]*)")
_FOREIGN_CLASS = re.compile(r"Import path (?P<path>\S+) does not correspond to a subclass of (?P<kind>\w+)")
_UNKNOWN_OPTION = re.compile(r"Option '(?P<name>[^']+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'")


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


def _restore_overrides(config: Namespace) -> None:
    """Bring back the dots in the keys of ``model.overrides``; a later setting of a key wins."""
    overrides = config.get(OVERRIDES)
    if isinstance(overrides, dict):
        config[OVERRIDES] = {key.replace(_DOT, "."): value for key, value in overrides.items()}


def import_files_of(config: str) -> None:
    """Import the user's files that a config names, before the classes in them are looked up.

    What cannot be read is left to who reads the config for good.
    """
    try:
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    for key, sources in _imports_in(content):
        import_user_code([beside(source, config) for source in sources], key)


def import_files_of_flags(arguments: Sequence[str]) -> None:
    """The same for ``--data.imports FILE``."""
    flags = {f"--{key}{plus}": key for key in IMPORTS for plus in ("", "+")}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in flags:
            import_user_code(_as_sources(value if equals else following), flags[name])


def beside(source: str, config: str) -> str:
    """The path of a user's file: as it is given or, where it is not there, relative to the config's folder."""
    there = Path(config).parent / source
    return str(there) if not Path(source).expanduser().is_file() and there.is_file() else source


def _imports_in(content: Any) -> Iterator[tuple[str, list[str]]]:
    groups = [content, *content.values()] if isinstance(content, dict) else []  # a command's name may be around them
    for group in groups:
        for key in IMPORTS:
            part, name = key.split(".")
            settings = group.get(part) if isinstance(group, dict) else None
            if isinstance(settings, dict):
                yield key, _as_sources(settings.get(name)) + _as_sources(settings.get(f"{name}+"))


def _as_sources(value: Any) -> list[str]:
    """Names of files and modules; none in what is no list of texts, which the parser refuses."""
    try:
        value = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return []
    return [source for source in (value if isinstance(value, list) else [value]) if isinstance(source, str)]


class MergingConfigFile(ActionConfigFile):
    """Reads a config file; its overrides add to those given before, where jsonargparse would replace them all.

    Its ``imports`` are run before its classes are looked up, and may lie beside it.
    """

    reading: ClassVar[str | None] = None
    """The file that is being read, for an error to name."""

    @staticmethod
    def apply_config(parser: Any, cfg: Namespace, dest: str, value: Any) -> None:
        _restore_overrides(cfg)
        before = cfg.get(OVERRIDES) or {}
        import_files_of(str(value))
        MergingConfigFile.reading = str(value)
        ActionConfigFile.apply_config(parser, cfg, dest, value)
        MergingConfigFile.reading = None
        for key in IMPORTS:
            if isinstance(sources := cfg.get(key), list):
                cfg[key] = [beside(str(source), str(value)) for source in sources]
        if before:
            cfg[OVERRIDES] = {**before, **(cfg.get(OVERRIDES) or {})}


class Parser(LightningArgumentParser):
    """Lightning's parser with the behaviour that the module's first line names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        import_files_of_flags(args or ())
        config = super().parse_args(args if args is None else escape_overrides(args), *rest, **kwargs)
        _restore_overrides(config)
        return config

    def dump(self, *args: Any, **kwargs: Any) -> str:
        return str(super().dump(*args, **kwargs)).replace(_DOT, ".")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and what may have been meant, without a page of usage, and exit with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        where = f"{MergingConfigFile.reading}: " if MergingConfigFile.reading else ""
        parser.exit(2, f"error: {where}{_explain(message.replace(_DOT, '.'), parser)}\n")
        raise AssertionError("exit returned")


def _explain(message: str, parser: argparse.ArgumentParser) -> str:
    """A message of jsonargparse's, shortened to its cause, with the nearest names for an unknown one."""
    for pattern in _UNKNOWN_KEY:
        if match := pattern.search(message):
            key = ".".join(part for part in (match.groupdict().get("group"), match["key"]) if part)
            options = (option.lstrip("-") for action in parser._actions for option in action.option_strings)
            return message + _nearest(key, options)
    if (place := _KEY.search(message)) and (cause := _explain_class(message)):
        return f"{place['key']}: {cause}"
    return message


def _explain_class(message: str) -> str | None:
    """What is wrong with the innermost ``class_path`` that a message is about; None where it is about none."""
    if wrong := [*_WRONG_CLASS.finditer(message)]:
        path, reason = wrong[-1]["path"], wrong[-1]["reason"].strip()
        if option := _UNKNOWN_OPTION.search(reason):
            known = inspect.signature(pkgutil.resolve_name(path)).parameters
            return f"{path} has no option {option['name']!r}{_nearest(option['name'], known)}"
        if unknown := _UNKNOWN_CLASS.search(reason):
            return f"{reason}{_nearest(unknown['name'], vars(pkgutil.resolve_name(unknown['module'])))}"
        if reason.startswith("No module named"):
            reason += f"; a file of your own is named in data.imports: [{path.partition('.')[0]}.py]"
        return f"{path}: {reason}"
    if foreign := [*_FOREIGN_CLASS.finditer(message)]:
        path, kind = foreign[-1].groups()
        of_transforms = kind in ("BasicTransform", "BaseCompose")
        return describe_foreign(path) if of_transforms else f"{path} is no {kind}, which is needed there"
    return None


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(close)}?" if close else ""
