"""Splits the samples of any reader at random, once or into folds."""

import copy
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lightning_seg.data.readers.reader import OrphanError, Reader, Wrapper
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.sources import name_below
from lightning_seg.structures import Sample

PARTS = ("train", "val", "test")


class Split(Wrapper):
    """One part of another reader's samples, drawn by seed.

    The parts share no sample and make up the whole. They are the same on every machine. Groups stay together, so a part
    is as near to its fraction as whole groups allow.

    With ``folds``, for cross-validation, every sample is in exactly one of the folds, which are of equal size as far as
    whole groups allow: ``val`` is the samples of one fold, ``train`` all others.

    Args:
        of: the reader that is split; the same in every part.
        part: which part this reader gives.
        fractions: of ``train``, ``val`` and ``test``, in this order or by name; they add up to 1.
        seed: another one draws another split.
        group_by: regular expression that is searched in each image's path below ``data.root``; samples with the same
            match (its first group, where it has one) belong together, such as ``(scene_[0-9]+)`` for tiles. null: every
            sample alone.
        folds: how many folds, in place of ``fractions``.
        fold: which of them is ``val``, from 0; null: the one that ``data.fold`` names.
    """

    def __init__(
        self,
        of: Reader,
        part: Literal["train", "val", "test"],
        fractions: Sequence[float] | Mapping[str, float] = (0.8, 0.1, 0.1),
        seed: int = 0,
        group_by: str | None = None,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        super().__init__(of)
        self.part = part
        self.fractions = _checked(fractions)
        self.seed = seed
        try:
            self.group_by = None if group_by is None else re.compile(group_by)
        except re.error as error:
            raise ConfigError(f"Split(group_by={group_by!r}) is no regular expression: {error}") from None
        if folds is not None and folds < 2:
            raise ConfigError(f"Split(folds={folds}) must be at least 2: each fold is val once, the others train")
        if folds is not None and part not in ("train", "val"):
            raise ConfigError(
                f"Split(folds={folds}, part={part!r}): folds have the parts train and val; split the samples of the "
                "test off first, with fractions, and let a Split with folds be of that Split"
            )
        if folds is None and fold is not None:
            raise ConfigError(f"Split(fold={fold}) needs folds: how many there are")
        self.folds = folds
        self.fold: int | None = None
        if fold is not None:
            self._choose(fold)

    def _choose(self, fold: int) -> None:
        assert self.folds is not None
        if not 0 <= fold < self.folds:
            raise ConfigError(f"Split(folds={self.folds}) has no fold {fold}: choose 0 to {self.folds - 1}")
        self.fold = fold

    def at_fold(self, fold: int) -> "Split":
        """The same with another fold.

        Raises:
            ConfigError: if there is no such fold.
        """
        other = copy.copy(self)
        other._choose(fold)
        return other

    def samples(self, root: Path | None) -> list[Sample]:
        if self.folds is not None and self.fold is None:
            raise ConfigError(f"Split(folds={self.folds}) has no fold: give data.fold, 0 to {self.folds - 1}")
        try:
            samples = self.of.samples(root)
        except OrphanError as error:
            chosen = self._chosen(self._grouped(error.samples, root))
            raise OrphanError(str(error), chosen, error.orphans) from None
        groups = self._grouped(samples, root)
        there = f"{len(samples)} samples in {len(groups)} groups"
        if self.folds is not None and len(groups) < self.folds:
            raise DataError(f"Split(folds={self.folds}) is more than the {there}: choose fewer folds or smaller groups")
        if chosen := self._chosen(groups):
            return chosen
        if self.folds is not None:
            raise DataError(
                f"Split: no sample falls into {self.part} of fold {self.fold} of {self.folds} ({there}): choose fewer "
                "folds, smaller groups, or another seed"
            )
        raise DataError(
            f"Split: no sample falls into {self.part} ({there}, fractions {self.fractions}): give it a larger fraction "
            "or smaller groups"
        )

    def _grouped(self, samples: Sequence[Sample], root: Path | None) -> dict[str, list[Sample]]:
        groups: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            groups[self._group(sample, root)].append(sample)
        return groups

    def _chosen(self, groups: Mapping[str, Sequence[Sample]]) -> list[Sample]:
        chosen: list[Sample] = []
        taken, total = 0, sum(map(len, groups.values()))
        for group in sorted(groups, key=self._lot):
            # A group goes where its middle falls, so that no part is always favoured.
            if self._has(2 * taken + len(groups[group]), 2 * total):
                chosen += groups[group]
            taken += len(groups[group])
        return sorted(chosen, key=lambda sample: sample.name)

    def _group(self, sample: Sample, root: Path | None) -> str:
        if self.group_by is None:
            return sample.name
        # Folders above the root would give all samples the same match.
        path = name_below(sample.image, root)
        match = self.group_by.search(path)
        if match is None:
            raise DataError(f"Split(group_by={self.group_by.pattern!r}) matches nothing in {path}")
        return match[1] if match.groups() else match[0]

    def _lot(self, group: str) -> str:
        return hashlib.sha256(f"{self.seed} {group}".encode(errors="surrogateescape")).hexdigest()

    def _has(self, place: int, places: int) -> bool:
        """Whether what lies at a place of the order belongs to the part."""
        if self.folds is None:
            return self._part_at(place / places) == self.part
        return (place * self.folds // places == self.fold) == (self.part == "val")

    def _part_at(self, place: float) -> str:
        end = 0.0
        for part, fraction in self.fractions.items():
            end += fraction
            if place < end:
                return part
        return PARTS[-1]


def _checked(fractions: Sequence[float] | Mapping[str, float]) -> dict[str, float]:
    named = fractions if isinstance(fractions, Mapping) else dict(zip(PARTS, fractions, strict=False))
    given = {part: float(named.get(part, 0.0)) for part in PARTS}
    if (
        len(fractions) > len(PARTS)
        or set(named) - set(PARTS)
        or min(given.values()) < 0
        or abs(sum(given.values()) - 1) > 1e-6
    ):
        raise ConfigError(f"Split(fractions={fractions}) must be numbers for train, val and test that add up to 1")
    return given


def at_fold(reader: Reader, fold: int) -> Reader:
    """A reader with another fold in each :class:`Split` with folds that it is or reads; else itself.

    Raises:
        ConfigError: if there is no such fold.
    """
    if isinstance(reader, Split) and reader.folds is not None:
        return reader.at_fold(fold)
    if not isinstance(reader, Wrapper) or (inner := at_fold(reader.of, fold)) is reader.of:
        return reader
    outer = copy.copy(reader)
    outer.of = inner
    return outer
