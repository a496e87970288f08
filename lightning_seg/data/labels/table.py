"""Turns stored values, colours or regions into class ids by one table for each source; it guesses nothing."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour, show_colour
from lightning_seg.data.reading import StoredMask
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Annotations, DatasetInfo, summarise

Ids = NDArray[np.uint8 | np.int32]
Unknown = Literal["refuse", "ignore"]

_COLOURS = 2**24
_DEEP_VALUES = 2**16
_MOST_LABELS = 1024

LABEL_MAP = "data.label_map"
"""The setting that says what stored values stand for, unless a reader has a label map of its own."""


class LabelTable:
    """Turns the masks of one source into class ids.

    Args:
        info: class names and the ignore index.
        values: class id, or the ignore index, of each stored value or category id.
        colours: the same of each colour.
        rest: id of what no region covers.
        other: id of every value and category that is not in ``values``; None: those are unknown.
        unknown: what happens to a value or colour that is in neither; a warning names the first that is ignored.
        assumed: the stored value that is ignored because nobody said what it stands for; None: there is none.
        setting: where the user says what values stand for, for messages.
    """

    def __init__(
        self,
        info: DatasetInfo,
        values: Mapping[int, int],
        colours: Mapping[Colour, int],
        *,
        rest: int | None = None,
        other: int | None = None,
        unknown: Unknown = "refuse",
        assumed: int | None = None,
        setting: str = LABEL_MAP,
    ) -> None:
        self.info = info
        self.values = dict(values)
        self.colours = dict(colours)
        self.rest = info.ignore_index if rest is None else rest
        self.other = other
        self.unknown = unknown
        self.assumed = assumed
        self.setting = setting
        self._told = False
        # A byte must hold the ids, the ignore index, and one more value for unknown labels.
        shallow = 0 <= info.ignore_index <= 255 and info.num_classes < 255
        self.dtype = np.dtype(np.uint8 if shallow else np.int32)
        self._foreign = -(2**31) if not shallow else 255 if info.ignore_index != 255 else 254
        self._by_colour: NDArray[np.uint8 | np.int32] | None = None
        self._otherwise = self._foreign if other is None else other
        shown = {v: i for v, i in self.values.items() if 0 <= v < _DEEP_VALUES}
        self._by_value = self._lookup(shown, _DEEP_VALUES, self._otherwise)
        self._own = _run_of_own_ids(self._by_value[:256], self._foreign)

    @property
    def ignored_values(self) -> set[int]:
        """Stored values or categories that are named as ignored."""
        return {value for value, index in self.values.items() if index == self.info.ignore_index}

    def with_value(self, value: int, index: int) -> "LabelTable":
        """The same table, in which a stored value or category has this class id."""
        return LabelTable(
            self.info, {**self.values, value: index}, self.colours,
            rest=self.rest, other=self.other, unknown=self.unknown, setting=self.setting,
        )  # fmt: skip

    def decode(self, stored: StoredMask, source: AnyFile) -> Ids:
        """Class ids and the ignore index, (H, W) uint8, or int32 where those do not fit.

        Raises:
            DataError: naming each value or colour that the table does not know and how many pixels have it.
        """
        ids, foreign = self.look_up(stored, source)
        if foreign:
            message = self.describe(foreign, source)
            if self.unknown == "refuse":
                raise DataError(message)
            if not self._told:
                warnings.warn(f"{message} (data.unknown is ignore: all such pixels are ignored)", stacklevel=2)
            self._told = True
        return ids

    def look_up(self, stored: StoredMask, source: AnyFile) -> tuple[Ids, dict[int | Colour, int]]:
        """Class ids, in which unknown values are ignored, and the number of pixels of each unknown value or colour.

        Raises:
            DataError: if colours are stored and no palette names any.
        """
        colours = self._colours_of(stored, source)
        if colours is None:
            assert stored.values is not None
            if self._are_ids(stored.values):
                return np.require(stored.values, requirements="W"), {}
            ids, keys = self._ids_of_values(stored.values), stored.values
        else:
            keys = pack(colours)
            if self._by_colour is None:
                packed = {int(pack(np.array(colour))): index for colour, index in self.colours.items()}
                self._by_colour = self._lookup(packed, _COLOURS, self._foreign)
            ids = self._by_colour[keys]
        unknown = ids == self._foreign
        if not unknown.any():
            return ids, {}
        ids[unknown] = self.info.ignore_index
        found, counts = np.unique(keys[unknown], return_counts=True)
        return ids, {
            int(value) if colours is None else _unpack(int(value)): int(count)
            for value, count in zip(found, counts, strict=True)
        }

    def labels_in(self, stored: StoredMask, source: AnyFile) -> dict[int | Colour, int]:
        """Number of pixels of each stored value, or of each colour where colours decide; at most the commonest.

        Raises:
            DataError: as :meth:`look_up`.
        """
        colours = self._colours_of(stored, source)
        keys: NDArray[Any] = pack(colours) if colours is not None else np.asarray(stored.values)
        if keys.dtype == np.uint8:  # a fifth of the time
            counts = np.bincount(keys.ravel())
            found = np.flatnonzero(counts)
            counts = counts[found]
        else:
            found, counts = np.unique(keys, return_counts=True)
        if len(found) > _MOST_LABELS:
            commonest = np.argpartition(-counts, _MOST_LABELS)[:_MOST_LABELS]
            found, counts = found[commonest], counts[commonest]
        return {
            int(value) if colours is None else _unpack(int(value)): int(count)
            for value, count in zip(found, counts, strict=True)
        }

    def id_of(self, category: int, source: Annotations) -> int:
        """Class id of a category.

        Raises:
            DataError: if the table does not know it.
        """
        if (found := self.values.get(category, self.other)) is not None:
            return found
        if self.unknown == "refuse":
            raise DataError(
                f"{source} has an annotation of category {category}, which its categories do not list: add it "
                f"there, or map it with {self.setting}, {category}: ignore"
            )
        return self.info.ignore_index

    def refuses(self, category: int) -> bool:
        """Whether :meth:`id_of` refuses a category."""
        return category not in self.values and self.other is None and self.unknown == "refuse"

    def __str__(self) -> str:
        """List what is stored for each class."""
        stored: dict[int, list[str]] = {}
        for value, index in self.values.items():
            stored.setdefault(index, []).append(str(value))
        for colour, index in self.colours.items():
            stored.setdefault(index, []).append(show_colour(colour))
        if self.other is not None:
            stored.setdefault(self.other, []).append("every other value")
        names = {**dict(enumerate(self.info.names)), self.info.ignore_index: "ignored"}
        order = sorted(stored, key=lambda index: (index == self.info.ignore_index, index))
        return "\n".join(f"  {names[index]}: {summarise(stored[index], limit=12)}" for index in order)

    def _colours_of(self, stored: StoredMask, source: AnyFile) -> NDArray[np.uint8] | None:
        """The colours of a mask, if they decide its classes; None if its values do.

        A palette image is read by its colours where ``data.palette`` names one of those that it uses.
        """
        if stored.values is None:
            if not self.colours:
                raise DataError(
                    f"{source} stores colours: say which class each stands for with data.palette, "
                    '{CLASS: "#RRGGBB", …}'
                )
            return stored.colours
        if stored.palette is None or not self.colours:
            return None
        used = np.unique(stored.values)
        used = used[used < len(stored.palette)]
        named = any(tuple(map(int, stored.palette[value])) in self.colours for value in used)
        return stored.palette[np.minimum(stored.values, len(stored.palette) - 1)] if named else None

    def _are_ids(self, values: NDArray[np.uint8 | np.int32]) -> bool:
        """Whether every stored value is its own class id; the extremes tell, without a copy of the mask."""
        if self._own is None or values.dtype != np.uint8:
            return False
        low, high = self._own
        signed = values.view(np.int8) if low < 0 else values  # 255 is -1
        return int(signed.max()) <= high and (low == 0 or int(signed.min()) >= low)

    def _ids_of_values(self, values: NDArray[np.uint8 | np.int32]) -> Ids:
        if values.dtype == np.uint8 and self.dtype == np.uint8:
            return np.asarray(cv2.LUT(values, np.ascontiguousarray(self._by_value[:256])))
        inside = (values >= 0) & (values < _DEEP_VALUES)
        ids = np.where(inside, self._by_value[np.where(inside, values, 0)], self.dtype.type(self._otherwise))
        for value, index in self.values.items():
            if not 0 <= value < _DEEP_VALUES:
                ids[values == value] = index
        return ids

    def _lookup(self, table: Mapping[int, int], size: int, otherwise: int) -> Ids:
        lookup = np.full(size, otherwise, self.dtype)
        for value, index in table.items():
            lookup[value] = index
        return lookup

    def describe(self, foreign: Mapping[int | Colour, int], source: AnyFile) -> str:
        """Name unknown values or colours, each with its pixels, and what to do about them."""
        listed = summarise(
            [f"{show_colour(v) if isinstance(v, tuple) else v} in {count} pixels" for v, count in foreign.items()]
        )
        if isinstance(next(iter(foreign)), tuple):
            return (
                f"{source} has the colour {listed}, which data.palette does not name: give it a name there, that of a "
                "class or one that data.label_map maps to a class; data.unknown: ignore ignores all such pixels"
            )
        last = self.info.num_classes - 1
        return (
            f"{source} has class id {listed}, but data.classes names {last + 1} classes (0 to {last}) and the stored "
            f"values {_ranges(self.values)} have a meaning: add a class, or map the value with {self.setting}"
        )


def _run_of_own_ids(by_value: Ids, foreign: int) -> tuple[int, int] | None:
    """Lowest and highest known byte (255 as -1), if every value between them is its own class id; else None."""
    known = np.flatnonzero(by_value != foreign)
    if by_value.dtype != np.uint8 or not len(known) or not np.array_equal(by_value[known], known):
        return None
    if known[-1] == 255 and len(known) <= 128:
        known = np.array([-1, *known[:-1]])
    return (int(known[0]), int(known[-1])) if known[-1] - known[0] == len(known) - 1 else None


def pack(colours: NDArray[Any]) -> NDArray[np.int32]:
    """Turn colours (…, 3), 0 to 255, into one number each, (…)."""
    wide = colours.astype(np.int32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2])


def _unpack(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


def _ranges(values: Mapping[int, int]) -> str:
    """Shorten consecutive values: ``0-10, 255``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
