"""Turns the user's settings of labels, which go by names, into the table of each source."""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_seg.colours import Colour, show_colour
from lightning_seg.data.labels.table import LABEL_MAP, LabelTable, Unknown
from lightning_seg.errors import ConfigError, IgnoreIsClassError
from lightning_seg.hints import did_you_mean
from lightning_seg.structures import DatasetInfo, SourceLabels, summarise

Unreadable = Literal["refuse", "skip"]

IGNORE = "ignore"
"""The name of pixels that do not count, in ``data.label_map`` and ``data.palette``."""

REST = "rest"
"""The key of ``data.label_map`` for everything that neither another key nor ``data.classes`` names."""

_VALUES = re.compile(r"(-?[0-9]+)(?:-(-?[0-9]+))?")
_WIDEST_RANGE = 2**16


@dataclass(frozen=True)
class Labelling:
    """How the user wants labels to be read: ``data.classes``, ``label_map``, ``palette``, ``unknown`` and more.

    ``ignore_assumed`` says that the ignore index was not chosen.
    """

    info: DatasetInfo
    label_map: Mapping[int | str, str]
    palette: Mapping[str, Colour]
    unknown: Unknown
    unreadable: Unreadable = "refuse"
    ignore_assumed: bool = False

    def table(
        self, source: SourceLabels | None, reader: str, own_label_map: Mapping[int | str, str] | None = None
    ) -> LabelTable:
        """The table of one source.

        Args:
            source: the source's own labels; None: masks hold ids of ``data.classes``, unless ``label_map`` says more.
            reader: the setting of its reader, for messages.
            own_label_map: of the reader, in place of ``label_map``.

        Raises:
            ConfigError: if a name is no class, or a value has no meaning.
        """
        named = {*self.palette, *([] if source is None else source.all_names)}
        given, setting = (
            (self.label_map, LABEL_MAP) if own_label_map is None else (own_label_map, f"{reader}.label_map")
        )
        keys = split_keys(given, named, setting)
        by_value, by_name = keys.by_value, keys.by_name
        assumed = None
        if source is None:
            if self.ignore_assumed and self.info.ignore_index not in by_value:
                assumed = self.info.ignore_index
            values = {} if by_value else {index: index for index in range(self.info.num_classes)}
            values.setdefault(self.info.ignore_index, self.info.ignore_index)
        else:
            values = {
                value: self.info.ignore_index
                if name is None
                else self._id_of_source(name, keys, setting, f"{reader} stores {name} as {value}, but")
                for value, name in source.values.items()
                if value not in by_value
            }
        values.update({value: self._id(name, setting, f"{setting}, value {value}") for value, name in by_value.items()})
        colours: dict[Colour, int] = {}
        for name, colour in self.palette.items():
            if name not in {*by_name, *self.info.names, IGNORE}:
                continue  # a name of another reader's label map
            index = self._id(by_name.get(name, name), setting, f"data.palette, {name}")
            if colours.setdefault(colour, index) != index:
                ignored = self.info.ignore_index in (index, colours[colour])
                raise (IgnoreIsClassError if ignored else ConfigError)(
                    f"data.palette gives {show_colour(colour)} to two classes, {name} and another"
                )
        if lost := sorted(by_name.keys() - named):
            raise ConfigError(
                f"{setting} maps {summarise(lost)}, but {reader} has no such value and data.palette no such name"
                + did_you_mean(lost[0], named)
            )
        rest = None
        if source is not None and source.rest is not None:
            rest = self._id_of_source(source.rest, keys, setting, f"the rest of {reader}")
        other = None if keys.rest is None else self._id(keys.rest, setting, f"{setting}, {REST}")
        return LabelTable(
            self.info, values, colours,
            rest=rest, other=other, unknown=self.unknown, assumed=assumed, setting=setting,
        )  # fmt: skip

    def _id_of_source(self, name: str, keys: "Keys", setting: str, where: str) -> int:
        """The class that a source's own name stands for; ``unknown: ignore`` ignores names that are no class."""
        if name in keys.by_name:
            return self._id(keys.by_name[name], setting, f"{setting}, {name}")
        if name == IGNORE:
            return self.info.ignore_index
        if name not in self.info.names and keys.rest is not None:
            return self._id(keys.rest, setting, f"{setting}, {REST}")
        if name not in self.info.names and self.unknown == "ignore":
            return self.info.ignore_index
        return self._id(name, setting, where)

    def _id(self, name: str, setting: str, where: str) -> int:
        if name == IGNORE:
            return self.info.ignore_index
        if name in self.info.names:
            return self.info.names.index(name)
        raise ConfigError(
            f"{where}: {name!r} is not in data.classes: add it there, or map it with {setting} to a class or to "
            f"ignore{did_you_mean(name, self.info.names)}"
        )


@dataclass(frozen=True)
class Keys:
    """The keys of a ``label_map``, told apart.

    Attributes:
        by_value: targets of stored values.
        by_name: targets of names.
        rest: target of all else; None where the map has no such key.
    """

    by_value: Mapping[int, str]
    by_name: Mapping[str, str]
    rest: str | None


def split_keys(label_map: Mapping[int | str, str], names: Container[str], setting: str = LABEL_MAP) -> Keys:
    """Tell stored values from names; a command line can only give text.

    A number is a value, and so is text that looks like one or like a range, unless it is a name.

    >>> split_keys({"1-3": "a", 7: "b", "7": "c", "rest": "d"}, {"7"})
    Keys(by_value={1: 'a', 2: 'a', 3: 'a', 7: 'b'}, by_name={'7': 'c'}, rest='d')

    Args:
        label_map: as the user gives it.
        names: those of the source and of the palette.
        setting: what it is called, for messages.

    Raises:
        ConfigError: if a range is no range, or a value has two targets.
    """
    by_value: dict[int, str] = {}
    by_name: dict[str, str] = {}
    rest = None
    for key, target in label_map.items():
        if isinstance(key, str) and (key in names or (key != REST and not _values_of(key, setting))):
            by_name[key] = target
        elif key == REST:
            rest = target
        else:
            for value in _values_of(str(key), setting):
                if by_value.setdefault(value, target) != target:
                    raise ConfigError(
                        f"{setting} maps value {value} to {by_value[value]} and to {target}: mend the ranges"
                    )
    return Keys(by_value, by_name, rest)


def _values_of(key: str, setting: str) -> Iterable[int]:
    """The values that a key stands for: ``7``, or ``1-8`` for all from 1 to 8; none where it is a name."""
    if (match := _VALUES.fullmatch(key)) is None:
        return []
    low, high = int(match[1]), int(match[2] or match[1])
    if not low <= high < low + _WIDEST_RANGE:
        raise ConfigError(
            f"{setting} has the range {key!r}: write the lower value first, and at most {_WIDEST_RANGE} values; "
            f"{REST!r} stands for all others"
        )
    return range(low, high + 1)
