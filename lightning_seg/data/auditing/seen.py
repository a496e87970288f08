"""The values and colours that masks hold, and what each stands for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_seg.data.labels.table import LabelTable
from lightning_seg.structures import Colour, show_colour, summarise

SHOWN = 8
"""Values in a message; the audit has more."""


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


def seen_labels(labels: Counter[int | Colour], table: LabelTable) -> list[SeenLabel]:
    """What masks hold, the commonest first."""
    names = {**dict(enumerate(table.info.names)), table.info.ignore_index: "ignored"}

    def meaning(label: int | Colour) -> str:
        index = table.colours.get(label) if isinstance(label, tuple) else table.values.get(label, table.other)
        if index is None:
            return "nothing, so ignored" if table.unknown == "ignore" else "nothing"
        return "ignored by default" if label == table.assumed else names[index]

    return [SeenLabel(show_label(label), meaning(label), pixels) for label, pixels in labels.most_common()]


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
