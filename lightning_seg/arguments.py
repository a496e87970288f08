"""The command line's parser: dotted Detectron2 keys, no abbreviations, and a suggestion for every typo."""

import argparse
import difflib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NoReturn

from jsonargparse import ActionConfigFile, Namespace
from pytorch_lightning.cli import LightningArgumentParser

OVERRIDES = "model.overrides"

_DOT = "\u2024"
"""Stands for the dots of a Detectron2 key while jsonargparse, which would nest the key at each dot, has it."""

_UNKNOWN_KEY = (
    re.compile(r"unrecognized arguments: -*(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Subcommand '[^']+' does not accept option '(?P<key>[^']+)'"),
)
_WRONG_CLASS = re.compile(
    r"Parser key \"(?P<key>[^\"]+)\".*class_path '(?P<path>[^']+)':\s+(?P<reason>[^\n]+)", re.DOTALL
)
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


class MergingConfigFile(ActionConfigFile):
    """Reads a config file; its overrides add to those given before, where jsonargparse would replace them all."""

    reading: ClassVar[str | None] = None
    """The file that is being read, for an error to name."""

    @staticmethod
    def apply_config(parser: Any, cfg: Namespace, dest: str, value: Any) -> None:
        _restore_overrides(cfg)
        before = cfg.get(OVERRIDES) or {}
        MergingConfigFile.reading = str(value)
        ActionConfigFile.apply_config(parser, cfg, dest, value)
        MergingConfigFile.reading = None
        if before:
            cfg[OVERRIDES] = {**before, **(cfg.get(OVERRIDES) or {})}


class Parser(LightningArgumentParser):
    """Lightning's parser with the behaviour that the module's first line names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
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
    if match := _WRONG_CLASS.search(message):
        where, path, reason = match["key"], match["path"], match["reason"].strip()
        if option := _UNKNOWN_OPTION.search(reason):
            known = inspect.signature(pkgutil.resolve_name(path)).parameters
            return f"{where}: {path} has no option {option['name']!r}{_nearest(option['name'], known)}"
        if unknown := _UNKNOWN_CLASS.search(reason):
            known_names = vars(pkgutil.resolve_name(unknown["module"]))
            return f"{where}: {reason}{_nearest(unknown['name'], known_names)}"
        return f"{where}: {path}: {reason}"
    return message


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(close)}?" if close else ""
