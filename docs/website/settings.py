"""Writes the page of all settings, from the parsers of the commands and the docstrings of the classes to choose."""

import argparse
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from unittest.mock import patch

import albumentations
import pytorch_lightning as pl
from jsonargparse import ActionYesNo

from docs.website.detectron2_keys import detectron2_keys, replaced_keys
from docs.website.docstrings import introduction, line, meanings
from docs.website.keys import config_keys, plain
from lightning_seg import audit, callbacks, cli, data, export, inference, losses, plot, polygons, review, serve
from lightning_seg.arguments import Parser
from lightning_seg.lightning_internals import options_of

CHOICES = (
    ("Readers", "`data.train`, `data.val` and `data.test`", data, data.Reader),
    ("Transforms", "`data.train_transforms` and `data.eval_transforms`", data, albumentations.BasicTransform),
    ("Losses", "`model.criterion`", losses, losses.Criterion),
    ("Ways to evaluate an image", "`model.inference`", inference, inference.Inference),
    ("Callbacks", "`trainer.callbacks`", callbacks, pl.Callback),
)
"""Title, the setting that chooses one, the module that exports them, and their base class."""

COMMANDS: tuple[tuple[str, Callable[[list[str]], Any]], ...] = (
    ("audit", audit.main),
    ("export", export.main),
    ("plot", plot.main),
    ("polygons", polygons.main),
    ("review", review.main),
    ("serve", serve.main),
)
GROUPS = ("model", "data", "trainer")
KINDS = {
    "Reader": "readers",
    "BasicTransform": "transforms",
    "Criterion": "losses",
    "Inference": "ways-to-evaluate-an-image",
    "Callback": "callbacks",
}
"""Base classes by the anchors of what can be chosen of them."""

_OF_A_GROUP = "Path to a configuration file."
"""What jsonargparse says of an option that stands for all of a group."""


def settings_page() -> str:
    """The page as Markdown."""
    commands = parsers_of_train()
    fit = options_of(commands["fit"])
    parts = [
        "# Which settings are there, and what is the default of each? { #settings }",
        "Made of the docstrings. A setting is a key of a YAML, or a flag: `data: {batch_size: 4}` or "
        "`--data.batch_size 4`. [Configuration](configuration.md) says how they go together.",
    ]
    for group in GROUPS:
        parts += [f"## {group}", _table(each for each in fit if each.dest.startswith(f"{group}."))]
    parts += ["## Beside the groups", _table((each for each in fit if "." not in each.dest), flags=True)]
    known = {each.dest for each in fit}
    for command in ("validate", "test", "predict"):
        own = [each for each in options_of(commands[command]) if each.dest not in known]
        parts += [f"`{command}` also takes:", _table(own, flags=True)]
    for title, where, module, base in CHOICES:
        parts += [f"## {title}", f"One of them is the `class_path` of {where}; the rows are its `init_args`."]
        for name, kind in classes(module, base):
            parts += [f"### {name}", f"`{module.__name__}.{name}`", introduction(kind), _table(arguments_of(kind))]
    parts += ["## Other commands"]
    for name, main in COMMANDS:
        parser = parser_of(main)
        own = [each for each in options_of(parser) if each.dest.partition(".")[0] not in GROUPS]
        parts += [f"### {name}", f"`{parser.prog}`", parser.description or "", _table(own, flags=True)]
    parts += [
        "## Keys of a Detectron2 config",
        "`model.overrides` takes these keys. The defaults are those of a YAML that names none of them.",
        "### Keys of Detectron2",
        _rows(("key", "default", "meaning"), detectron2_keys()),
        "### Keys that this project adds",
        _rows(("key", "default", "meaning"), config_keys()),
        "### Keys without effect",
        "In the file of `model.config`, a notice names them; in `model.overrides` they are errors.",
        _rows(("key or group", "set instead"), replaced_keys()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


class _Found(BaseException):
    """Carries a parser out of a command that is about to use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(main: Callable[[list[str]], Any]) -> argparse.ArgumentParser:
    """The parser that a command makes in the moment it reads its arguments."""

    def found(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise _Found(parser)

    with patch.object(argparse.ArgumentParser, "parse_args", found), patch.object(Parser, "parse_args", found):
        try:
            main([])
        except _Found as caught:
            return caught.parser
    raise AssertionError(f"{main} has read no arguments")


def parsers_of_train() -> dict[str, argparse.ArgumentParser]:
    """Those of ``fit``, ``validate``, ``test`` and ``predict``."""
    actions = options_of(parser_of(lambda args: cli.main(["fit"])))
    (commands,) = (each for each in actions if isinstance(each, argparse._SubParsersAction))
    return dict(commands._name_parser_map)


def classes(module: Any, base: type) -> list[tuple[str, type]]:
    """What can be chosen of a module, by name."""
    found = [(name, getattr(module, name)) for name in module.__all__]
    return [
        (name, kind)
        for name, kind in found
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base and not inspect.isabstract(kind)
    ]


def arguments_of(kind: type) -> list[argparse.Action]:
    """The ``init_args`` of a class, with those that it passes on to its base."""
    parser = Parser()
    parser.add_class_arguments(kind, "x", fail_untyped=False)
    needed = inspect.signature(kind).parameters
    actions = [each for each in options_of(parser) if each.dest.startswith("x.") and each.dest.count(".") == 1]
    documented = meanings(kind)
    for each in actions:
        each.dest = each.dest.removeprefix("x.")
        each.help = each.help or documented.get(each.dest)
        each.required = each.dest in needed and needed[each.dest].default is inspect.Parameter.empty
    return actions


def _table(actions: Iterable[argparse.Action], flags: bool = False) -> str:
    """A table of options that a user may set; the empty string if there are none.

    Args:
        flags: name them as a command line does, not as a YAML.
    """
    rows = []
    for action in actions:
        flag = "".join(action.option_strings[:1])
        hidden = action.help == argparse.SUPPRESS or action.dest in ("help", "print_config", *GROUPS)
        if not (hidden or action.dest.endswith(".help") or " --> " in flag or action.help == _OF_A_GROUP):
            name = f"--{action.dest}" if flag and flags else action.metavar or action.dest if flags else action.dest
            rows.append((f"`{name}`", f"{_type(action)}; {_default(action)}", line(action.help)))
    return _rows(("setting", "type; default", "meaning"), rows)


def _type(action: argparse.Action) -> str:
    if action.choices:
        return ", ".join(f"`{each}`" for each in action.choices)
    if action.nargs == 0 or isinstance(action, ActionYesNo):
        return "bool"
    return shown(getattr(action, "_typehint", None) or action.type or str)


def shown(hint: Any) -> str:
    """A type as a reader of the page may know it.

    >>> shown(list[int] | None), shown(Literal["a", "b"])
    ('list of int', '`a`, `b`')
    """
    kind = get_origin(hint)
    if kind is Literal:
        return ", ".join(f"`{each}`" for each in get_args(hint))
    if kind in (Union, types.UnionType):
        literals = [value for each in get_args(hint) if get_origin(each) is Literal for value in get_args(each)]
        others = [shown(each) for each in get_args(hint) if get_origin(each) is not Literal and each is not type(None)]
        values = [", ".join(f"`{each}`" for each in dict.fromkeys(map(str, literals)))] if literals else []
        return " or ".join(dict.fromkeys([*others, *values]))
    if kind is Callable:
        return "class"
    if isinstance(kind, type) and issubclass(kind, Iterable):
        return "mapping" if issubclass(kind, Mapping) else f"list of {shown(get_args(hint)[0])}"
    if inspect.isfunction(hint):  # that makes a value of a text
        return shown(get_type_hints(hint)["return"])
    name = getattr(hint, "__name__", str(hint))
    return f"[{name}](#{KINDS[name]})" if name in KINDS else name


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    return f"`{plain(None if action.default == argparse.SUPPRESS else action.default)}`"


def _rows(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return (
        "\n".join(f"| {each} |" for each in (" | ".join(heads), " | ".join("---" for _ in heads), *lines))
        if lines
        else ""
    )
