"""Lists the keys that this project adds to Detectron2's config: their defaults, and the comments beside them."""

import ast
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from lightning_seg.models.architectures import add_architectures_config
from lightning_seg.models.backbones import add_backbones_config
from lightning_seg.models.heads import _add_mask2former_config, add_heads_config

DECLARED: tuple[Callable[..., None], ...] = (
    add_heads_config,
    _add_mask2former_config,
    add_backbones_config,
    add_architectures_config,
)


def config_keys() -> list[tuple[str, str, str]]:
    """Key, default and meaning of each, in the order of the code."""
    return [row for function in DECLARED for row in _keys(function)]


def _keys(function: Callable[..., None]) -> Iterator[tuple[str, str, str]]:
    """Read the assignments to ``cfg.A.B`` of a function; names such as ``head = cfg.MODEL.SEM_SEG_HEAD`` stand for it.

    A comment stands behind a key, or above it on lines of its own.
    """
    source = inspect.getsource(function)
    lines = source.splitlines()
    names = {"cfg": ""}
    for statement in ast.walk(ast.parse(source)):
        if not isinstance(statement, ast.Assign):
            continue
        value = ast.unparse(statement.value)
        paths = [_path(target, names) for target in statement.targets]
        alias = next((target.id for target in statement.targets if isinstance(target, ast.Name)), None)
        if alias is not None:
            names[alias] = next(filter(None, paths[1:]), None) or _path(statement.value, names) or alias
        elif value != "CfgNode()" and paths[0]:
            yield f"`{paths[0]}`", f"`{_yaml(value)}`", _comment(lines, statement)


def _path(node: ast.expr, names: dict[str, str]) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join(filter(None, [names[node.id], *parts]))


def _comment(lines: list[str], statement: ast.Assign) -> str:
    _, hash_sign, behind = lines[(statement.end_lineno or 0) - 1].partition("  # ")
    if hash_sign:
        return behind
    above: list[str] = []
    for text in reversed(lines[: statement.lineno - 1]):
        if not text.strip().startswith("# "):
            break
        above.insert(0, text.strip().removeprefix("# "))
    return " ".join(above)


def _yaml(value: str) -> str:
    """A Python literal as YAML has it; an expression as its number."""
    try:
        return plain(ast.literal_eval(value))
    except ValueError:
        return str(eval(value, {}))  # of this project's own code: a product of numbers


def plain(value: Any) -> str:
    """A value as YAML has it.

    >>> plain((1, None, True))
    '[1, null, true]'
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    return str(value) if str(value) else '""'
