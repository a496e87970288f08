"""Finds the classes of an experiment: names and colours, as the user or the data's source gives them."""

from collections.abc import Mapping, Sequence

from lightning_seg.colours import Colour, default_palette, parse_colour
from lightning_seg.data.labels.label_map import IGNORE, split_keys
from lightning_seg.errors import ConfigError, IgnoreIsClassError
from lightning_seg.structures import DatasetInfo, SourceLabels


def classes_of_source(
    source: SourceLabels, label_map: Mapping[int | str, str]
) -> tuple[list[str], Mapping[str, Colour]]:
    """Names (after mapping) and colours of the classes that a source names."""
    keys = split_keys(label_map, source.all_names)
    targets: dict[str, list[str]] = {}
    for value, name in source.values.items():
        if name is not None:
            targets.setdefault(name, []).append(keys.by_value.get(value, keys.by_name.get(name, keys.rest or name)))
    untold = {name: [keys.by_name.get(name, keys.rest or name)] for name in source.names}
    mapped = [target for name in source.names for target in {**untold, **targets}[name]]
    names = [name for name in dict.fromkeys(mapped) if name != IGNORE]
    return names, {name: colour for name, colour in source.palette.items() if name in names}


def parse_palette(palette: Mapping[str, str | Sequence[int]]) -> dict[str, Colour]:
    """Colours of ``data.palette``.

    Raises:
        ConfigError: if one is no colour.
    """
    colours = {}
    for name, text in palette.items():
        try:
            colours[name] = parse_colour(text)
        except ValueError as error:
            raise ConfigError(f"data.palette, {name}: {error}") from None
    return colours


def dataset_info(
    classes: Sequence[str],
    ignore_index: int,
    palette: Mapping[str, Colour],
    known: set[int | str],
    channels: int = 3,
) -> DatasetInfo:
    """Class names, the ignore index and the colours of pictures.

    Args:
        classes: names in id order.
        ignore_index: id of pixels that do not count.
        palette: colours by name; other classes get one chosen for them.
        known: names that ``palette`` may have beside the classes.
        channels: of every image.

    Raises:
        ConfigError: if they do not go together.
    """
    if IGNORE in classes:
        raise ConfigError(f"data.classes names {IGNORE!r}, which stands for pixels that do not count: rename the class")
    if len(classes) == 1:
        raise ConfigError(
            f"{classes[0]!r} is the only class: name the background too, as in data.classes: [background, "
            f"{classes[0]}], or with the reader's background"
        )
    if doubles := sorted({name for name in classes if classes.count(name) > 1}):
        raise ConfigError(f"data.classes names {', '.join(doubles)} more than once")
    if 0 <= ignore_index < len(classes):
        raise IgnoreIsClassError(
            f"data.ignore_index {ignore_index} is the id of class {classes[ignore_index]!r}: "
            f"choose a value outside 0 to {len(classes) - 1}"
        )
    if unknown := sorted(palette.keys() - set(classes) - known):
        raise ConfigError(f"data.palette colours {', '.join(unknown)}, which data.classes does not name")
    colours = dict(zip(classes, default_palette(len(classes)), strict=True)) | dict(palette)
    return DatasetInfo(tuple(classes), ignore_index, tuple(colours[name] for name in classes), channels)
