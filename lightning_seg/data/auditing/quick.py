"""What a few seconds can tell before a run: the listing, headers, and a small fixed sample of whole files."""

import time
from collections.abc import Container, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from lightning_seg.data.auditing.defects import Defect
from lightning_seg.data.auditing.examine import Examination, compare_sizes, examine
from lightning_seg.data.auditing.listing import Listing
from lightning_seg.data.auditing.pool import without_opencv_threads
from lightning_seg.data.reading import ReadingRules, read_header
from lightning_seg.errors import DataError, UnfitImageError
from lightning_seg.structures import Sample

WHOLE_FILES = 32
"""Samples of each split that are read."""

HEADERS = 512
"""Samples of each split whose headers alone are read."""

SECONDS = 3.0
SHOWN = 5

COMMAND = "python -m lightning_seg.audit --config …"


def refuse_visible_defects(
    listings: Mapping[str, Listing], seconds: float = SECONDS, *, skip_unreadable: Container[str] = ()
) -> None:
    """Stop before a run where a quick look finds what would stop it later; leave the rest to the audit.

    Args:
        listings: of the splits that the run reads.
        seconds: after which no further file is opened.
        skip_unreadable: splits of which the run passes over what cannot be read.

    Raises:
        DataError: with the first defects, and the command that finds all.
    """
    with without_opencv_threads():  # the loader's workers are forked from here
        defects = look_quickly(listings, time.monotonic() + seconds)
    found = [f"data.{split}: {listing.refusal}" for split, listing in listings.items() if listing.refusal]
    found += [
        f"data.{defect.split}: {defect.detail}"
        for defect in defects
        if defect.kind != "unreadable" or defect.split not in skip_unreadable
    ]
    if found:
        more = f"\nand {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise DataError(
            "\n".join(found[:SHOWN])
            + f"{more}\nThis is from a quick look: {COMMAND} reads all files and lists every defect"
        )


def look_quickly(listings: Mapping[str, Listing], deadline: float) -> list[Defect]:
    """Defects that would stop a run, among those that show quickly; the splits in turn, so that each has its share."""
    defects: list[Defect] = []
    whole = _in_turn({split: _spread(listing.samples, WHOLE_FILES) for split, listing in listings.items()})
    headers = _in_turn({split: _spread(listing.samples, HEADERS) for split, listing in listings.items()})
    seen: set[tuple[str, str]] = set()
    for split, sample in whole:
        if time.monotonic() > deadline:
            break
        seen.add((split, sample.name))
        defects += examine(sample, listings[split].table, split, listings[split].rules).defects
    for split, sample in headers:
        if time.monotonic() > deadline:
            break
        if (split, sample.name) not in seen:
            defects += _examine_headers(sample, split, listings[split].rules)
    return [defect for defect in defects if defect.refused]


def _examine_headers(sample: Sample, split: str, rules: ReadingRules) -> list[Defect]:
    found = Examination(split, sample.image)
    path = sample.image
    try:
        header = read_header(path, "image", rules)
        if isinstance(sample.mask, Path):
            path = sample.mask
            compare_sizes(path, read_header(path, "mask", rules).upright, header, found)
    except DataError as error:
        found.report("unfit" if isinstance(error, UnfitImageError) else "unreadable", path, error)
    return found.defects


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Some samples, evenly over the list, the same ones each time.

    >>> _spread(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(samples) <= count:
        return list(samples)
    return [samples[round(number * (len(samples) - 1) / (count - 1))] for number in range(count)]


def _in_turn(splits: Mapping[str, Sequence[Sample]]) -> list[tuple[str, Sample]]:
    columns = [[(split, sample) for sample in samples] for split, samples in splits.items()]
    return [entry for entry in chain.from_iterable(zip_longest(*columns)) if entry is not None]
