"""Ignores regions of images that have a mask file for each class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour
from lightning_seg.data.labels.label_map import IGNORE
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.readers.class_files import CLASS
from lightning_seg.data.reading.class_masks import ClassMasks, covered
from lightning_seg.data.reading.masks import StoredMask, read_mask
from lightning_seg.data.reading.storage import InMemory
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.reviewing.encoding import Pixels, as_png, with_value
from lightning_seg.sources import AnyFile

_PLACE = f"{{{CLASS}}}"


@dataclass(frozen=True)
class IgnoredClass:
    """What ignores pixels in a source with a file for each class.

    Attributes:
        value: 0 if pixels that no file covers are ignored; else the value of the ignored class.
        name: what ``{class}`` stands for in the names of its files; empty if there are none.
    """

    value: int
    name: str

    @classmethod
    def of(cls, masks: Sequence[ClassMasks], table: LabelTable) -> "IgnoredClass":
        """Nothing where that is ignored, a class that is ignored already, or a new one, ``ignore``."""
        ignored = table.ignored_values
        if 0 in ignored:
            return cls(0, "")
        for mask in masks:
            for value, file in mask.files:
                before, _, after = mask.name.partition(_PLACE)
                if value in ignored and str(file).startswith(before) and str(file).endswith(after):
                    return cls(value, str(file)[len(before) : len(str(file)) - len(after)])
        return cls(max([0, *table.values]) + 1, IGNORE)

    def file_of(self, mask: ClassMasks) -> Path:
        """Where the file of the ignored class belongs.

        Raises:
            ConfigError: if the names of files do not say.
        """
        if _PLACE not in mask.name:
            raise ConfigError(f"{mask}: its name does not say where a file of the class {self.name} belongs")
        return Path(mask.name.replace(_PLACE, self.name))


def with_ignored(
    mask: ClassMasks, region: Pixels, ignored: IgnoredClass, table: LabelTable
) -> Iterator[tuple[AnyFile, bytes | None]]:
    """All files of an image, and their bytes where they change: no class covers the region but the ignored one.

    Args:
        mask: of the image.
        region: (H, W); may be empty.
        ignored: what ignores pixels.
        table: what the values of the classes mean.

    Raises:
        ConfigError: if it is not known where the file of the ignored class belongs.
        DataError: if a file cannot be written, or would read otherwise than it should.
    """
    table = table.with_value(ignored.value, table.info.ignore_index)
    before = table.decode(read_mask(mask), mask).copy()
    before[region] = table.info.ignore_index
    new: list[tuple[int, AnyFile, bytes | None]] = []
    for value, file in mask.files:
        stored = read_mask(file)
        here = covered(stored, file, mask.threshold)
        part = region & (~here if value == ignored.value else here)
        there = _full(stored, mask.threshold) if value == ignored.value else _value(0, stored)
        new.append((value, file, with_value(file, part, there) if part.any() else None))
    if ignored.value and ignored.value not in dict(mask.files):
        full = np.uint16(65535) if (mask.threshold or 0) > 255 else np.uint8(255)
        pixels: NDArray[np.integer] = np.where(region, full, full * 0)
        new.append((ignored.value, ignored.file_of(mask), as_png(pixels)))
    files = tuple((value, file if data is None else InMemory(str(file), data)) for value, file, data in new)
    after = table.decode(read_mask(replace(mask, files=files)), mask)
    if not np.array_equal(after, before):
        raise DataError(f"{mask} would read otherwise than it should with its regions ignored")
    yield from ((file, data) for _, file, data in new)


def _full(stored: StoredMask, threshold: int | None) -> int | Colour:
    """What stands for all of a pixel."""
    pixels = stored.values if stored.values is not None else stored.colours
    assert pixels is not None
    largest = int(pixels.max(initial=0))
    return _value(largest if largest >= max(1, threshold or 1) else 255 if (threshold or 0) <= 255 else 65535, stored)


def _value(value: int, stored: StoredMask) -> int | Colour:
    return value if stored.values is not None else (value, value, value)
