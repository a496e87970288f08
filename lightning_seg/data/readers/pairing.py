"""Image and mask paths that a list or a table names: found, or told apart by what is missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_seg.data.readers.reader import Orphan, OrphanError, resolve
from lightning_seg.structures import Sample


def pair(
    image_names: Sequence[str], image_folders: Sequence[Path], mask_name: str, mask_folders: Sequence[Path], where: str
) -> tuple[Path, Path] | Orphan:
    """The first image and the first mask that exist, or what is left where one does not.

    Args:
        image_names: paths that the image may have.
        image_folders: what they may be relative to.
        mask_name: path of the mask.
        mask_folders: what it may be relative to.
        where: file and line that name them, for messages.
    """
    images = [resolve(name, folder) for name in image_names for folder in image_folders]
    masks = [resolve(mask_name, folder) for folder in mask_folders]
    image = next((path for path in images if path.is_file()), None)
    mask = next((path for path in masks if path.is_file()), None)
    if image is not None and mask is not None:
        return image, mask
    what, name, missing = ("image", image_names[0], images[0]) if image is None else ("mask", mask_name, masks[0])
    detail = (
        f"{where} names {what} {name!r}, but {missing} does not exist: "
        "check data.root, or remove a prefix that is no real path with strip_prefix"
    )
    if image is not None:
        return Orphan("orphan_image", image, detail)
    return Orphan("unreadable", images[0], detail) if mask is None else Orphan("orphan_mask", mask, detail)


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
