"""Lists the values and colours that masks hold, and says what each stands for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.colours import Colour, show_colour
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.structures import summarise

SHOWN = 8
"""How many values a message shows; the audit shows more."""


@dataclass(frozen=True, slots=True)
class SeenLabel:
    """One stored value or colour.

    Attributes:
        stored: the value, or ``#rrggbb``.
        meaning: name of its class, ``ignored``, ``ignored by default`` or ``nothing``.
        pixels: how many have it.
    """

    stored: str
    meaning: str
    pixels: int


def seen_labels(labels: Mapping[int, Counter[int | Colour]], tables: Sequence[LabelTable]) -> list[SeenLabel]:
    """List what masks hold, the commonest first; a value that stands for several classes, in several readers, for each.

    Args:
        labels: pixels of each value or colour, by source.
        tables: what they stand for, by source.
    """
    pixels: Counter[tuple[str, str]] = Counter()
    for source, of_source in labels.items():
        for label, count in of_source.items():
            pixels[show_label(label), _meaning(label, tables[source])] += count
    return [SeenLabel(*label, count) for label, count in pixels.most_common()]


def _meaning(label: int | Colour, table: LabelTable) -> str:
    index = table.colours.get(label) if isinstance(label, tuple) else table.values.get(label, table.other)
    if index is None:
        return "nothing, so ignored" if table.unknown == "ignore" else "nothing"
    if label == table.assumed:
        return "ignored by default"
    return "ignored" if index == table.info.ignore_index else table.info.names[index]


def by_name(labels: Sequence[SeenLabel]) -> dict[str, SeenLabel]:
    """Labels by what is stored, and by ``7 (road)`` where several readers store 7 and mean several classes by it.

    >>> list(by_name([SeenLabel("7", "road", 2), SeenLabel("7", "car", 1), SeenLabel("8", "car", 1)]))
    ['7 (road)', '7 (car)', '8']
    """
    times = Counter(label.stored for label in labels)
    return {
        label.stored if times[label.stored] == 1 else f"{label.stored} ({label.meaning})": label for label in labels
    }


def in_all(labels: Mapping[int, Counter[int | Colour]]) -> Counter[int | Colour]:
    """Pixels of each value or colour in the masks of all sources."""
    return sum(labels.values(), Counter())


def show_shares(labels: Mapping[int | Colour, int]) -> str:
    """The commonest values with their shares.

    >>> show_shares({0: 3, (255, 0, 0): 1})
    '0 in 75.0%, #ff0000 in 25.0%'
    """
    total = max(1, sum(labels.values()))
    return summarise(
        [f"{show_label(label)} in {pixels / total:.1%}" for label, pixels in Counter(labels).most_common()], SHOWN
    )


def show_label(label: int | Colour) -> str:
    """The value, or ``#rrggbb``."""
    return show_colour(label) if isinstance(label, tuple) else str(label)


def announce_labels(
    settings: Sequence[str], tables: Sequence[LabelTable], told: Iterable[LabelTable], figures: SplitStatistics | None
) -> None:
    """Say how the labels of a split are read, unless it was said of another reader whose labels are read so.

    Args:
        settings: of the split's readers.
        tables: what their labels mean.
        told: tables of the splits of which it was said.
        figures: of the masks that have been read; None where none has.
    """
    said = list(told)
    for source, (setting, table) in enumerate(zip(settings, tables, strict=True)):
        if any(other.values == table.values and other.colours == table.colours for other in said):
            continue
        said.append(table)
        seen = ""
        if figures is not None and figures.labels[source]:
            of_masks = f" in {figures.masks} masks" if len(tables) == 1 else ""
            seen = f"\n  seen{of_masks}: {show_shares(figures.labels[source])}"
        rank_zero_info(f"{setting}, stored labels of each class:\n{table}{seen}")
