"""Image and mask paths that a list or a table names: found, or told apart by what is missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_seg.data.readers.reader import Orphan, OrphanError, resolve
from lightning_seg.structures import Sample


def pair(
    image_names: Sequence[str],
    image_folders: Sequence[Path],
    mask_name: str,
    mask_folders: Sequence[Path],
    where: str,
    *,
    may_strip: bool = False,
) -> tuple[Path, Path] | Orphan:
    """The first image and the first mask that exist, or what is left where one does not.

    Args:
        image_names: paths that the image may have.
        image_folders: what they may be relative to.
        mask_name: path of the mask.
        mask_folders: what it may be relative to.
        where: file and line that name them, for messages.
        may_strip: whether the reader has a ``strip_prefix`` to advise.
    """
    image = _first_file(image_names, image_folders)
    mask = _first_file([mask_name], mask_folders)
    if image is not None and mask is not None:
        return image, mask
    what, name, folder = (
        ("image", image_names[0], image_folders[0]) if image is None else ("mask", mask_name, mask_folders[0])
    )
    missing = resolve(name, folder)
    advice = ", or remove a prefix that is no real path with strip_prefix" if may_strip and "/" in name else ""
    detail = f"{where} names {what} {name!r}, but {missing} does not exist: check data.root{advice}"
    if image is not None:
        return Orphan("orphan_image", image, detail)
    return Orphan("unreadable", missing, detail) if mask is None else Orphan("orphan_mask", mask, detail)


def _first_file(names: Sequence[str], folders: Sequence[Path]) -> Path | None:
    return next((path for name in names for folder in folders if (path := resolve(name, folder)).is_file()), None)


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
