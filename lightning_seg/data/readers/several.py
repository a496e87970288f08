"""Brings together the readers of a split, which may be several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lightning_seg.data.readers.reader import Reader
from lightning_seg.data.readers.split import at_fold
from lightning_seg.errors import ConfigError
from lightning_seg.structures import Sample

Readers = Mapping[str, Sequence[Reader]]
"""The readers of each split; none where the experiment does not have it."""


def readers_of(
    given: Mapping[str, Reader | Sequence[Reader] | None], fold: int | None = None
) -> dict[str, list[Reader]]:
    """Readers as lists.

    Args:
        given: by split.
        fold: of every ``Split`` with folds; None: their own.

    Raises:
        ConfigError: if a list is empty, or no reader has such a fold.
    """
    found: dict[str, list[Reader]] = {}
    for split, readers in given.items():
        if readers is None or isinstance(readers, Reader):
            found[split] = [] if readers is None else [readers]
        elif not readers:
            raise ConfigError(f"data.{split} is an empty list: name a reader, or write null for no data.{split}")
        else:
            found[split] = list(readers)
    if fold is None:
        return found
    chosen = {split: [at_fold(reader, fold) for reader in readers] for split, readers in found.items()}
    if all(new is old for split in found for new, old in zip(chosen[split], found[split], strict=True)):
        raise ConfigError(f"data.fold is {fold}, but no reader is a Split with folds: give one, or leave data.fold out")
    return chosen


def settings_of(split: str, readers: Sequence[object]) -> list[str]:
    """What the configuration calls each reader of a split: ``data.train``, or ``data.train.1`` where it has several."""
    return [f"data.{split}"] if len(readers) == 1 else [f"data.{split}.{place}" for place in range(len(readers))]


def joined(parts: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The samples of a split, one reader's after the other's, each with the place of its reader.

    Where two readers have a sample of the same name, all names begin with the place of their reader.

    >>> from pathlib import Path
    >>> a, b = Sample("a", Path("a.jpg")), Sample("b", Path("b.jpg"))
    >>> [(sample.name, sample.source) for sample in joined([[a], [b]])]
    [('a', 0), ('b', 1)]
    >>> [(sample.name, sample.source) for sample in joined([[a, b], [a]])]
    [('0/a', 0), ('0/b', 0), ('1/a', 1)]

    Args:
        parts: the samples of each reader, whose names differ from each other.
    """
    if len(parts) == 1:
        return list(parts[0])
    names = [sample.name for part in parts for sample in part]
    alike = len(set(names)) < len(names)
    return [
        replace(sample, name=f"{place}/{sample.name}" if alike else sample.name, source=place)
        for place, part in enumerate(parts)
        for sample in part
    ]
