"""Pairs image and mask paths that a list or a table names, and says which file of a pair is missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.finding import resolve, why_missing
from lightning_seg.data.readers.reader import Orphan, OrphanError
from lightning_seg.data.readers.text import is_raw
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Sample


class Named(NamedTuple):
    """A file that a list or table names.

    Attributes:
        name: as it is written, or as a pattern makes it.
        folder: where it was looked for first.
        found: the files that it may mean.
    """

    name: str
    folder: Path
    found: Sequence[Path]


def pair(image: Named, mask: Named, where: str, *, may_strip: bool = False) -> tuple[AnyFile, AnyFile] | Orphan:
    """Pair the image and the mask of a sample; where one is missing, report the other as an orphan.

    Args:
        image: of the sample.
        mask: of the sample.
        where: file and line that name them, for messages.
        may_strip: whether the reader has a ``strip_prefix`` to advise.

    Raises:
        DataError: if several files are meant, or image and mask are one file.
    """
    for what, (name, _, found) in (("image", image), ("mask", mask)):
        if len(found) > 1:
            raise DataError(
                f"{where} names {what} {name!r}, which may be {' or '.join(map(str, found))}: write the name of the "
                "file in full, or rename one of them"
            )
    if image.found and mask.found:
        if image.found[0] == mask.found[0]:
            raise DataError(f"{where} pairs {image.found[0]} with itself: name an image and its mask")
        return located(image.found[0]), located(mask.found[0])
    what, (name, folder, _) = ("mask", mask) if image.found else ("image", image)
    missing = resolve(name, folder)
    advice = ", or remove a prefix that is no real path with strip_prefix" if may_strip and "/" in name else ""
    if is_raw(name):
        advice += ", or save the list in UTF-8"
    detail = f"{where} names {what} {name!r}, but {why_missing(missing)}{advice}"
    if image.found:
        return Orphan("orphan_image", image.found[0], detail)
    return Orphan("orphan_mask", mask.found[0], detail) if mask.found else Orphan("unreadable", missing, detail)


def complete(samples: Iterable[Sample], orphans: Sequence[Orphan]) -> list[Sample]:
    """The samples, sorted by name.

    Raises:
        OrphanError: if there are orphans, with the first one's message.
    """
    ordered = sorted(samples, key=lambda sample: sample.name)
    if orphans:
        more = f" (and {len(orphans) - 1} more such)" if len(orphans) > 1 else ""
        raise OrphanError(orphans[0].detail + more, ordered, orphans)
    return ordered
