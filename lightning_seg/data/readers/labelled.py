"""Gives a reader a label map of its own."""

from collections.abc import Mapping
from typing import Any

from lightning_seg.data.readers.reader import Reader, Wrapper
from lightning_seg.errors import ConfigError

CLASS_KEYS = ("class_path", "init_args", "label_map")
"""What may stand beside each other where a configuration names a reader."""


class Labelled(Wrapper):
    """A reader with a label map of its own.

    In a configuration, ``{class_path: …, init_args: {…}, label_map: {…}}`` stands for it.

    Args:
        of: the reader.
        label_map: what its stored values, or its source's names, stand for; read as ``data.label_map``, and in its
            place.
    """

    def __init__(self, of: Reader, label_map: dict[int | str, str]) -> None:
        super().__init__(of)
        if of.own_label_map is not None:
            raise ConfigError(f"{type(of).__name__} has two label maps of its own, one inside the other: give one")
        self.label_map = label_map

    @property
    def own_label_map(self) -> Mapping[int | str, str]:
        return self.label_map


def spelled_out(value: Any) -> Any:
    """Write each reader of a configuration that has a ``label_map`` beside its ``class_path`` as :class:`Labelled`.

    >>> spelled_out([{"class_path": "Mine", "init_args": {"x": 1}, "label_map": {7: "road"}}])[0]["init_args"]
    {'of': {'class_path': 'Mine', 'init_args': {'x': 1}}, 'label_map': {7: 'road'}}

    Args:
        value: what a YAML holds; what is no such reader stays as it is.
    """
    if isinstance(value, list):
        return [spelled_out(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: spelled_out(item) for key, item in value.items()}
    if not {"class_path", "label_map"} <= found.keys() <= set(CLASS_KEYS):
        return found
    label_map = found.pop("label_map")
    if label_map is None:
        return found
    return {"class_path": "lightning_seg.data.Labelled", "init_args": {"of": found, "label_map": label_map}}
