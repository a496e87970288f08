"""Reads a text file that chooses the samples of a folder, one a line."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lightning_seg.data.readers.finding import Finder, spellings
from lightning_seg.data.readers.names import sample_name
from lightning_seg.data.readers.pairing import Named, complete, pair
from lightning_seg.data.readers.patterns import NamePair
from lightning_seg.data.readers.reader import Orphan
from lightning_seg.data.readers.text import lines_of, read_text
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample


def listed_samples(
    file: Path,
    image_folders: Sequence[Path],
    mask_folders: Sequence[Path],
    image_suffixes: Sequence[str],
    names: NamePair,
    strip_prefix: str,
) -> list[Sample]:
    """The samples that a list names: a stem, an image path, or an image and a mask path in each line.

    A stem means the one image of that name that is not its mask; a line with a path means that very file.

    Args:
        file: the list.
        image_folders: what images are relative to, in the order of search.
        mask_folders: the same of masks.
        image_suffixes: of images, in any case.
        names: the mask's file name with ``{stem}``, where the line names none; its suffix in any case.
        strip_prefix: removed from the start of every path.

    Raises:
        DataError: if the list is unreadable, empty, ambiguous, or names a sample twice.
        OrphanError: if files are missing.
    """
    finder = Finder()
    seen: dict[str, int] = {}
    samples: list[Sample] = []
    orphans: list[Orphan] = []
    for number, line in lines_of(read_text(file, "list", raw_names=True)):
        where = f"{file}, line {number}"
        image, *masks = [column.removeprefix(strip_prefix) for column in _columns(line, where)]
        stem, suffix = os.path.splitext(image)
        in_full = suffix.lower() in image_suffixes
        if masks:
            mask = Named(masks[0], mask_folders[0], finder.find(masks[0], mask_folders))
        else:
            mask = _named_like(stem if in_full else image, names, mask_folders, finder)
        if in_full:
            found = Named(image, image_folders[0], finder.find(image, image_folders))
        else:
            all_found = finder.find(image, image_folders, image_suffixes, any_case=True)
            others = [path for path in all_found if path not in mask.found]
            found = Named(image + image_suffixes[0], image_folders[0], others)
        name = sample_name(stem if in_full else image)
        if name in seen:
            raise DataError(f"{where} names {name} again, first seen in line {seen[name]}: remove one")
        seen[name] = number
        pairing = pair(found, mask, where, may_strip=True)
        if isinstance(pairing, Orphan):
            orphans.append(pairing)
        else:
            samples.append(Sample(name, *pairing))
    if not seen:
        raise DataError(f"list file {file} is empty: it should hold one sample a line")
    return complete(samples, orphans)


def _named_like(stem: str, names: NamePair, folders: Sequence[Path], finder: Finder) -> Named:
    """The mask that a pattern gives a stem."""
    named = Named("", folders[0], [])
    for spelling in spellings(stem):
        path = PurePosixPath(spelling)
        name = (path.parent / (names.mask.filled({"stem": path.name}) + names.mask_suffix)).as_posix()
        found = finder.find(name, folders, any_case=True)
        if found:
            return Named(name, folders[0], found)
        named = named if named.name else Named(name, folders[0], [])
    return named


def _columns(line: str, where: str) -> list[str]:
    split = line.split("\t") if "\t" in line else re.split(" +", line)
    columns = [column.strip(" ") for column in split if column.strip()]
    if len(columns) > 2:
        raise DataError(
            f"{where} has {len(columns)} columns: expected a stem, an image path, or an image and a mask path; "
            "separate paths that hold spaces with a tab"
        )
    return columns
