"""Lists the values and colours that masks hold, and says what each stands for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.structures import Colour, show_colour, summarise

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


def seen_labels(labels: Counter[int | Colour], table: LabelTable) -> list[SeenLabel]:
    """List what masks hold, the commonest first."""
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


def announce_labels(part: str, table: LabelTable, told: Iterable[LabelTable], figures: SplitStatistics | None) -> None:
    """Say how the labels of a split are read, unless it was said of another split that is read in the same way.

    Args:
        part: the split.
        table: what its labels mean.
        told: tables of the splits of which it was said.
        figures: of the masks that have been read; None where none has.
    """
    if any(other.values == table.values and other.colours == table.colours for other in told):
        return
    seen = ""
    if figures is not None and figures.labels:
        seen = f"\n  seen in {figures.masks} masks: {show_shares(figures.labels)}"
    rank_zero_info(f"data.{part}, stored labels of each class:\n{table}{seen}")
