"""Finds the images of a data set, and the mask files of each of their classes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning_seg.data.readers.finding import examples
from lightning_seg.data.readers.folder import IMAGE_SUFFIXES
from lightning_seg.data.readers.names import sample_name
from lightning_seg.data.readers.patterns import NamePair
from lightning_seg.errors import DataError

CLASS = "class"
"""The part of ``mask_name`` that says which class a mask is of."""


@dataclass
class ClassFiles:
    """The files of a data set, by relative path.

    Attributes:
        image_files, mask_files: paths of all files below the two folders.
        images: the image of each sample, by the sample's name.
        masks: the mask of each class, by the sample's name.
        others: what is named as a mask but for its suffix.
    """

    image_files: Mapping[str, Path]
    mask_files: Mapping[str, Path]
    images: dict[str, str] = field(default_factory=dict)
    masks: dict[str, dict[str, str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The classes of all masks, in alphabetical order."""
        return sorted({label for of in self.masks.values() for label in of})

    def image_of(self, name: str) -> Path:
        """The path of a sample's image."""
        return self.image_files[self.images[name]]

    @property
    def alone(self) -> list[str]:
        """The masks that have no image."""
        return sorted(file for name in self.masks.keys() - self.images.keys() for file in self.masks[name].values())


def class_files(
    names: NamePair, image_files: Mapping[str, Path], mask_files: Mapping[str, Path], images: Path, masks: Path
) -> ClassFiles:
    """Find them by their names.

    Args:
        names: how images and masks are named.
        image_files: paths below the folder of images, by relative path.
        mask_files: the same of masks; the same object where both lie in one folder.
        images: that folder, for messages.
        masks: that folder, for messages.

    Raises:
        DataError: if there is no image or no mask, or two of one name.
    """
    found = ClassFiles(image_files, mask_files)
    candidates = names.images(image_files)
    suffix = names.mask_suffix.lower()
    taken: set[Path] = set()
    others: list[str] = []
    for file, path in mask_files.items():
        stem, own = os.path.splitext(file)
        if own.lower() not in (suffix, *IMAGE_SUFFIXES) or (parts := names.mask.match(stem)) is None:
            continue
        name, label = names.name_of(parts), sample_name(parts[CLASS])
        # In one folder, a file is a mask only where there is an image for it: img_1.png may be no mask of class 1.
        if mask_files is image_files and name not in candidates:
            continue
        if own.lower() != suffix:
            others.append(file)
            continue
        taken.add(path)
        if (first := found.masks.setdefault(name, {}).setdefault(label, file)) != file:
            both = ", ".join(sorted((first, file)))
            raise DataError(f"{masks} has two masks of class {label} for {name}: {both}; rename one")
    for name, files in candidates.items():
        own_files = sorted(file for file in files if image_files[file] not in taken)
        if len(own_files) > 1:
            raise DataError(
                f"{images} has several images for the masks of {name}: {', '.join(own_files)}; rename all but one, or "
                "narrow image_suffixes"
            )
        if own_files:
            found.images[name] = own_files[0]
    shown = {found.image_of(name) for name in found.images}
    found.others = sorted(file for file in others if mask_files[file] not in shown)
    _refuse_none(found.images, "image", images, names.image_name, image_files)
    _refuse_none(found.masks, "mask", masks, names.mask_name, mask_files)
    return found


def _refuse_none(
    found: Mapping[str, object], what: str, folder: Path, template: str, files: Mapping[str, Path]
) -> None:
    if not found:
        raise DataError(
            f"{folder} holds no {what} named {template!r}{examples(files)}: check data.root and the reader's "
            f"{what}s and {what}_name"
        )


def lacking_classes(found: ClassFiles, classes: Sequence[str]) -> dict[str, list[str]]:
    """The classes that a sample has no mask of, by the names of samples that lack any."""
    lacks = {name: [each for each in classes if each not in found.masks.get(name, ())] for name in sorted(found.images)}
    return {name: each for name, each in lacks.items() if each}
