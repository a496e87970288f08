"""Splits the samples of any reader at random."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lightning_seg.data.readers.reader import OrphanError, Reader
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.sources import name_below
from lightning_seg.structures import Sample, SourceLabels

PARTS = ("train", "val", "test")


class Split(Reader):
    """One part of another reader's samples, drawn by seed.

    The parts share no sample and make up the whole. They are the same on every machine. Groups stay together, so a part
    is as near to its fraction as whole groups allow.

    Args:
        of: the reader that is split; the same in every part.
        part: which part this reader gives.
        fractions: of ``train``, ``val`` and ``test``, in this order or by name; they add up to 1.
        seed: another one draws another split.
        group_by: regular expression that is searched in each image's path below ``data.root``; samples with the same
            match (its first group, where it has one) belong together, such as ``(scene_[0-9]+)`` for tiles. null: every
            sample alone.
    """

    def __init__(
        self,
        of: Reader,
        part: Literal["train", "val", "test"],
        fractions: Sequence[float] | Mapping[str, float] = (0.8, 0.1, 0.1),
        seed: int = 0,
        group_by: str | None = None,
    ) -> None:
        self.of = of
        self.part = part
        self.fractions = _checked(fractions)
        self.seed = seed
        try:
            self.group_by = None if group_by is None else re.compile(group_by)
        except re.error as error:
            raise ConfigError(f"Split(group_by={group_by!r}) is no regular expression: {error}") from None

    def prepare(self, root: Path | None) -> None:
        self.of.prepare(root)

    @property
    def prepares(self) -> bool:
        return self.of.prepares

    def labels(self, root: Path | None) -> SourceLabels | None:
        return self.of.labels(root)

    def samples(self, root: Path | None) -> list[Sample]:
        try:
            samples = self.of.samples(root)
        except OrphanError as error:
            raise OrphanError(str(error), self._chosen(error.samples, root), error.orphans) from None
        if chosen := self._chosen(samples, root):
            return chosen
        groups = {self._group(sample, root) for sample in samples}
        raise DataError(
            f"Split: no sample falls into {self.part} ({len(samples)} samples in {len(groups)} groups, "
            f"fractions {self.fractions}): give it a larger fraction or smaller groups"
        )

    def release(self) -> None:
        self.of.release()

    def _chosen(self, samples: Sequence[Sample], root: Path | None) -> list[Sample]:
        groups: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            groups[self._group(sample, root)].append(sample)
        chosen: list[Sample] = []
        taken = 0
        for group in sorted(groups, key=self._lot):
            # A group goes where its middle falls, so that no part is always favoured.
            if self._part_at((taken + len(groups[group]) / 2) / len(samples)) == self.part:
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
