"""Takes a quick look before a run: it lists the samples, and reads some headers and a few whole files."""

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from lightning_seg.data.auditing.absent import absent_classes
from lightning_seg.data.auditing.examine import Examination, compare_grids, compare_sizes, examine, examine_mask
from lightning_seg.data.auditing.pool import without_opencv_threads
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.listing.defects import COMMAND, EVERY_DEFECT, Defect, remedies
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.reading import ReadingRules, read_header
from lightning_seg.errors import DataError, UnfitImageError
from lightning_seg.structures import Sample

WHOLE_FILES = 32
"""How many samples of each split are read."""

HEADERS = 512
"""Of how many samples of each split only the headers are read."""

SECONDS = 3.0
SHOWN = 5

_SECONDS_A_PIXEL = 30e-9
"""First guess of the time to read a sample; the slowest sample that was read replaces it."""

_LARGE = 2**22
"""From this number of pixels on, the time to read a sample depends on them alone."""


def refuse_visible_defects(
    listings: Mapping[str, Listing], seconds: float = SECONDS, *, skip_unreadable: Container[str] = ()
) -> dict[str, SplitStatistics]:
    """Stop before a run if a quick look finds what would stop it or falsify its figures; the audit finds the rest.

    It says how many samples it had no time for, and which classes a split lacks.

    Args:
        listings: of the splits that the run reads.
        seconds: time after which no further file is opened.
        skip_unreadable: splits in which the run passes over samples that cannot be read.

    Returns:
        Figures of the samples that were read, by split.

    Raises:
        DataError: with the first defects, and the command that finds all.
    """
    with without_opencv_threads():  # the loader's workers are forked from here
        glance = look_quickly(listings, time.monotonic() + seconds)
    refused = [
        defect
        for defect in glance.defects
        if defect.refused and (defect.kind != "unreadable" or defect.split not in skip_unreadable)
    ]
    found = [f"data.{split}: {listing.refusal}" for split, listing in listings.items() if listing.refusal]
    found += [f"data.{defect.split}: {defect.told}" for defect in refused]
    if found:
        source = f"This is from a quick look: {EVERY_DEFECT}"
        raise DataError("\n".join([*_first(found), *remedies(refused), source]))
    if glance.defects:
        rank_zero_warn("\n".join(_first([defect.detail for defect in glance.defects])))
    if glance.left:
        rank_zero_info(
            f"The quick look at the data had no time for {glance.left} of {glance.planned} samples: they are checked "
            f"as the run reads them, and all at once by {COMMAND}"
        )
    return glance.figures


def _first(lines: Sequence[str]) -> list[str]:
    return [*lines[:SHOWN], *([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])]


@dataclass
class Glance:
    """What a quick look found.

    Attributes:
        figures: of the samples that were read, by split.
        defects: defects of samples that would stop a run, and classes that a split lacks.
        planned: number of samples to look at, as a whole or at their headers.
        left: for how many of them there was no time.
    """

    figures: dict[str, SplitStatistics]
    defects: list[Defect] = field(default_factory=list)
    planned: int = 0
    left: int = 0

    def add(self, found: Examination) -> None:
        self.defects += [defect for defect in found.defects if defect.refused]
        if found.class_pixels is not None:
            figures = self.figures[found.split]
            figures.add_mask(found.class_pixels, found.ignored, found.unknown, found.labels, found.source)


def look_quickly(listings: Mapping[str, Listing], deadline: float) -> Glance:
    """Look at samples, then at headers; splits take turns, so that each has its share.

    Where only one class was seen, more masks are read: they may show what is missing.
    """
    glance = Glance({
        split: SplitStatistics(listing.tables[0].info.num_classes, len(listing.samples))
        for split, listing in listings.items()
    })  # fmt: skip
    clock = _Clock(deadline)
    whole = _in_turn({split: _spread(listing.samples, WHOLE_FILES) for split, listing in listings.items()})
    headers = _in_turn({split: _spread(listing.samples, HEADERS) for split, listing in listings.items()})
    read: set[tuple[str, str]] = set()
    for split, sample in whole:
        if clock.has_time_for(sample, listings[split].rules):
            with clock:
                glance.add(examine(sample, listings[split].table_of(sample), split, listings[split].rules))
            read.add((split, sample.name))
    seen = set(read)
    for split, sample in headers:
        if (split, sample.name) not in seen and clock.has_time:
            glance.defects += _examine_headers(sample, split, listings[split].rules)
            seen.add((split, sample.name))

    def absent(split: str) -> list[Defect]:
        info = listings[split].tables[0].info
        whole = sum(part == split for part, _ in read) == len(listings[split].samples)
        return absent_classes(split, glance.figures[split], listings[split], info, whole=whole)

    doubtful = {
        split
        for split, listing in listings.items()
        if any(table.assumed is not None for table in listing.tables) and absent(split)
    }
    for split, sample in headers:
        if split in doubtful and (split, sample.name) not in read and clock.has_time_for(sample, listings[split].rules):
            with clock:
                glance.add(examine_mask(sample, listings[split].table_of(sample), split, listings[split].rules))
            read.add((split, sample.name))
            if not absent(split):
                doubtful.remove(split)
    glance.defects += [defect for split in listings for defect in absent(split)]
    to_read = {(split, sample.name) for split, sample in whole}
    to_see = {(split, sample.name) for split, sample in headers}
    glance.planned, glance.left = len(to_read | to_see), len((to_read - read) | (to_see - seen - read))
    return glance


class _Clock:
    """Tells whether there is time for a sample, by the time that earlier samples took.

    Args:
        deadline: of ``time.monotonic()``.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._rate = _SECONDS_A_PIXEL
        self._pixels = 0
        self._begun = 0.0

    @property
    def has_time(self) -> bool:
        return time.monotonic() <= self.deadline

    def has_time_for(self, sample: Sample, rules: ReadingRules) -> bool:
        """Whether a sample will be read before the deadline, by the size that its image's header states."""
        if not self.has_time:
            return False
        try:
            height, width = read_header(sample.image, "image", rules).upright
        except DataError:  # reading the sample says so at once
            height = width = 0
        self._pixels = height * width
        return time.monotonic() + self._pixels * self._rate <= self.deadline

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._rate = max(self._rate, (time.monotonic() - self._begun) / max(self._pixels, _LARGE))


def _examine_headers(sample: Sample, split: str, rules: ReadingRules) -> list[Defect]:
    found = Examination(split, sample.image)
    path = sample.image
    try:
        header = read_header(path, "image", rules)
        if sample.mask_file is not None:
            path = sample.mask_file
            compare_sizes(path, read_header(path, "mask", rules).upright, header, found)
            compare_grids(path, header, rules, found)
    except DataError as error:
        found.report("unfit" if isinstance(error, UnfitImageError) else "unreadable", path, error)
    return [defect for defect in found.defects if defect.refused]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Choose some samples, evenly over the list, the same ones each time.

    >>> _spread(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(samples) <= count:
        return list(samples)
    return [samples[round(number * (len(samples) - 1) / (count - 1))] for number in range(count)]


def _in_turn(splits: Mapping[str, Sequence[Sample]]) -> list[tuple[str, Sample]]:
    columns = [[(split, sample) for sample in samples] for split, samples in splits.items()]
    return [entry for entry in chain.from_iterable(zip_longest(*columns)) if entry is not None]
