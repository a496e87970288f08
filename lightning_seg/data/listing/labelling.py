"""Finds the classes of an experiment, and how its labels are read, from settings and sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_seg.colours import Colour
from lightning_seg.data.labels.classes import classes_of_source, dataset_info, parse_palette
from lightning_seg.data.labels.label_map import IGNORE, Labelling, Unreadable
from lightning_seg.data.labels.table import Unknown
from lightning_seg.data.readers.several import Readers
from lightning_seg.errors import ConfigError

IGNORE_INDEX = 255
"""The ignore index if ``data.ignore_index`` is not set."""


def find_labelling(
    readers: Readers,
    root: Path | None,
    classes: Sequence[str] | None,
    label_map: Mapping[int | str, str] | None,
    palette: Mapping[str, str | list[int]] | None,
    ignore_index: int | None,
    unknown: Unknown,
    unreadable: Unreadable,
    channels: int,
) -> Labelling:
    """How labels are read; the arguments are the settings of ``data``, and the number of channels of images.

    Raises:
        ConfigError: if they do not go together, or no class is named.
    """
    colours, label_map = parse_palette(palette or {}), label_map or {}
    names, usual = (classes, {}) if classes else find_classes(readers, root, label_map)
    known = {IGNORE, *label_map}.union(*(reader.own_label_map or () for some in readers.values() for reader in some))
    index = IGNORE_INDEX if ignore_index is None else ignore_index
    info = dataset_info(names, index, {**usual, **colours}, known, channels)
    return Labelling(info, label_map, colours, unknown, unreadable=unreadable, ignore_assumed=ignore_index is None)


def find_classes(
    readers: Readers, root: Path | None, label_map: Mapping[int | str, str]
) -> tuple[list[str], Mapping[str, Colour]]:
    """Find names (after mapping) and colours of the first reader whose source has any.

    Raises:
        ConfigError: if none has.
    """
    for reader in (reader for some in readers.values() for reader in some):
        if (source := reader.labels(root)) is not None:
            return classes_of_source(source, label_map if reader.own_label_map is None else reader.own_label_map)
    raise ConfigError("data.classes is empty: list the class names in id order")
