"""Resolves paths of settings: ``~``, ``$VARS``, and ``./`` in a YAML, which is the folder of that YAML."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

_HERE = ("./", "../")
"""How a path begins that is relative to the file that contains it."""

SETTLED = "paths that begin with ./ are relative to the working directory"
"""A comment in a YAML that a command wrote: its paths are relative to the working directory, as those of flags are."""

_GROUPS = ("model", "data", "trainer")
"""Groups of settings. If one is a path, jsonargparse reads the group from that file, relative to the YAML."""


def expanded(path: str) -> str:
    """``~`` and ``$VARS`` as a shell reads them; a name that no user or variable has stays."""
    try:
        return os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 (Path's raises for an unknown user)
    except ValueError:  # it holds what no user's name can
        return path


def with_paths_from(folder: Path, text: str, working: Path) -> str:
    """Change the ``./`` and ``../`` paths in a YAML so that they no longer depend on its folder; nothing else changes.

    A path below the working directory becomes relative to that, so that a run's ``config.yaml`` and checkpoints stay
    valid in a copy of the repository. Within ``data``, paths become absolute, since relative ones start from
    ``data.root``.

    Args:
        folder: of the YAML, absolute.
        text: of the YAML. It is returned unchanged if it has the comment :data:`SETTLED`, or if it cannot be parsed:
            then the parser will report it.
        working: the working directory, absolute.

    >>> print(with_paths_from(Path("/home/me/configs"), "model: {config: ./base.yaml, weights: ''}", Path("/home/me")))
    model: {config: "configs/base.yaml", weights: ''}
    """
    if f"# {SETTLED}\n" in text or not any(beginning in text for beginning in _HERE):
        return text
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        starts = {
            token.end_mark.index: token.start_mark.index
            for token in yaml.scan(text, yaml.SafeLoader)
            if isinstance(token, yaml.ScalarToken)
        }
    except yaml.YAMLError:
        return text
    paths = {
        node.end_mark.index: (node.value, keys) for node, keys in _scalars(root, ()) if node.value.startswith(_HERE)
    }
    for end, (value, keys) in sorted(paths.items(), reverse=True):
        if keys[-1:] not in [(group,) for group in _GROUPS]:
            text = text[: starts[end]] + json.dumps(_placed(value, keys, folder, working)) + text[end:]
    return text


def _placed(value: str, keys: tuple[str, ...], folder: Path, working: Path) -> str:
    path = Path(os.path.normpath(folder / value))
    inside = path.is_relative_to(working) and "data" not in keys[:2]
    return str(path.relative_to(working) if inside else path)


def _scalars(node: yaml.Node | None, keys: tuple[str, ...]) -> Iterator[tuple[yaml.ScalarNode, tuple[str, ...]]]:
    """Find each value that is a text, and the keys that lead to it."""
    if isinstance(node, yaml.ScalarNode):
        yield node, keys
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, keys)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*keys, str(key.value)))
