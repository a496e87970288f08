"""How the user wants labels to be read: from names in a config to the table of each source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from lightning_seg.data.labels import LabelTable, Unknown
from lightning_seg.errors import ConfigError, IgnoreIsClassError
from lightning_seg.structures import Colour, DatasetInfo, SourceLabels, show_colour, summarise

IGNORE = "ignore"
"""The name that ``data.label_map`` and ``data.palette`` give what does not count."""


@dataclass(frozen=True)
class Labelling:
    """How the user wants labels to be read: ``data.classes``, ``label_map``, ``palette``, ``unknown``.

    ``ignore_assumed`` says that the ignore index was not chosen.
    """

    info: DatasetInfo
    label_map: Mapping[int | str, str]
    palette: Mapping[str, Colour]
    unknown: Unknown
    ignore_assumed: bool = False

    def table(self, source: SourceLabels | None, reader: str) -> LabelTable:
        """The table of one source.

        Args:
            source: what it says of itself; None: masks hold ids of ``data.classes``, unless ``label_map`` says more.
            reader: its name, for messages.

        Raises:
            ConfigError: if a name is no class, or a value has no meaning.
        """
        by_value, by_name = split_keys(self.label_map)
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
                else self._id_of_source(name, by_name, f"{reader} stores {name} as {value}, but")
                for value, name in source.values.items()
                if value not in by_value
            }
        values.update({value: self._id(name, f"data.label_map, value {value}") for value, name in by_value.items()})
        colours: dict[Colour, int] = {}
        for name, colour in self.palette.items():
            index = self._id(by_name.get(name, name), f"data.palette, {name}")
            if colours.setdefault(colour, index) != index:
                ignored = self.info.ignore_index in (index, colours[colour])
                raise (IgnoreIsClassError if ignored else ConfigError)(
                    f"data.palette gives {show_colour(colour)} to two classes, {name} and another"
                )
        named = {*self.palette, *([] if source is None else source.names)}
        if source is not None:
            named |= {name for name in source.values.values() if name is not None}
        if lost := sorted(by_name.keys() - named):
            raise ConfigError(
                f"data.label_map maps {summarise(lost)}, but {reader} has no such value and data.palette no such name"
                + _nearest(lost[0], named)
            )
        rest = None
        if source is not None and source.rest is not None:
            rest = self._id_of_source(source.rest, by_name, f"the rest of {reader}")
        return LabelTable(self.info, values, colours, rest=rest, unknown=self.unknown, assumed=assumed)

    def _id_of_source(self, name: str, by_name: Mapping[str, str], where: str) -> int:
        """What a source's own name stands for; with ``unknown: ignore`` one that is not trained is ignored."""
        if name in by_name:
            return self._id(by_name[name], f"data.label_map, {name}")
        if name not in self.info.names and self.unknown == "ignore":
            return self.info.ignore_index
        return self._id(name, where)

    def _id(self, name: str, where: str) -> int:
        if name == IGNORE:
            return self.info.ignore_index
        if name in self.info.names:
            return self.info.names.index(name)
        raise ConfigError(
            f"{where}: {name!r} is not in data.classes: add it there, or map it with data.label_map to a class or to "
            f"ignore{_nearest(name, self.info.names)}"
        )


def split_keys(label_map: Mapping[int | str, str]) -> tuple[dict[int, str], dict[str, str]]:
    """Stored values and names apart; a command line can only give text."""
    by_value: dict[int, str] = {}
    by_name: dict[str, str] = {}
    for key, name in label_map.items():
        if isinstance(key, int) or key.lstrip("-").isdecimal():
            by_value[int(key)] = name
        else:
            by_name[key] = name
    return by_value, by_name


def _nearest(name: str, options: Sequence[str] | set[str]) -> str:
    close = get_close_matches(name, list(options), n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""
