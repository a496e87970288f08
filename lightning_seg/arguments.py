"""The command line's parser: dotted Detectron2 keys, no abbreviations, and a suggestion for every typo."""

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, Namespace
from pytorch_lightning.cli import LightningArgumentParser

OVERRIDES = "model.overrides"

_DOT = "\u2024"
"""Stands for the dots of a Detectron2 key while jsonargparse, which would nest the key at each dot, has it."""

_UNKNOWN = (
    re.compile(r"unrecognized arguments: -*(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"No action for key \"?'?(?P<key>[^'\"\s]+)"),
    re.compile(r"Key '(?P<key>[^']+)' is not expected"),
)


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


def restore_overrides(config: Namespace) -> None:
    """Bring back the dots in the keys of ``model.overrides``; a later setting of a key wins."""
    overrides = config.get(OVERRIDES)
    if isinstance(overrides, dict):
        config[OVERRIDES] = {key.replace(_DOT, "."): value for key, value in overrides.items()}


class _MergingConfigFile(ActionConfigFile):
    """Reads a config file; its overrides add to those given before, where jsonargparse would replace them all."""

    @staticmethod
    def apply_config(parser: Any, cfg: Namespace, dest: str, value: Any) -> None:
        restore_overrides(cfg)
        before = cfg.get(OVERRIDES) or {}
        ActionConfigFile.apply_config(parser, cfg, dest, value)
        if before:
            cfg[OVERRIDES] = {**before, **(cfg.get(OVERRIDES) or {})}


class Parser(LightningArgumentParser):
    """Lightning's parser with the behaviour that the module's first line names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.add_argument("-c", "--config", action=_MergingConfigFile, help="YAML file; later ones and flags win.")

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        config = super().parse_args(args if args is None else escape_overrides(args), *rest, **kwargs)
        restore_overrides(config)
        return config

    def dump(self, *args: Any, **kwargs: Any) -> str:
        return str(super().dump(*args, **kwargs)).replace(_DOT, ".")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and what may have been meant, without a page of usage, and exit with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        message = message.replace(_DOT, ".")
        parser.exit(2, f"error: {message}{parser.suggestion(message)}\n")
        raise AssertionError("exit returned")

    def suggestion(self, message: str) -> str:
        """``; did you mean --trainer.max_epochs?`` where the message is about an unknown key, else nothing."""
        for pattern in _UNKNOWN:
            if match := pattern.search(message):
                group = match.groupdict().get("group")
                key = f"{group}.{match['key']}" if group else match["key"]
                known = [option.lstrip("-") for option in _options(self)]
                close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
                return f"; did you mean {', '.join(close)}?" if close else ""
        return ""


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]
