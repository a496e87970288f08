"""Reads images and masks of one or two folders, matched by name or paired by a list file."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.finding import examples, files_of, matching_folders, resolve
from lightning_seg.data.readers.listed import listed_samples
from lightning_seg.data.readers.mismatches import Mismatches
from lightning_seg.data.readers.patterns import NamePair
from lightning_seg.data.readers.reader import Orphan, Reader
from lightning_seg.data.readers.templates import fitting_templates
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Sample, summarise

LOSSY_SUFFIXES = (".jpg", ".jpeg")
LOSSY = "JPEG changes label values"

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class Folder(Reader):
    """Images and masks in two folders, or in one.

    An image and its mask have the named parts of the two patterns in common: in ``image_name: "{stem}"`` and
    ``mask_name: "{stem}_ids.png"``, all but the end. Sub-folders are followed, and a mask lies in the same sub-folder
    as its image. Where a pattern has a ``/``, both are whole paths instead: ``"{scene}/rgb/{id}.tif"`` and
    ``"{scene}/labels/{id}_cls.tif"``.

    Args:
        images: folder of the images, or several: in ``*/images``, ``*`` is any folder, and the mask of an image lies in
            the folder of ``*/masks`` with the same name. May be left out where ``list`` gives all paths; where the
            patterns are whole paths, it is then ``data.root``.
        masks: folder of the masks, or several; may be the same folder. Left out as ``images``; it is then that folder.
        image_name: pattern of an image's name. ``{stem}`` is any text without ``/``, and so is a part of any other
            name; a part that comes twice stands for the same. Without a suffix, it means all of ``image_suffixes``.
            Files of other names are no images. A brace is written twice.
        mask_name: the mask's file name, with parts that ``image_name`` has; its suffix in any case.
        image_suffixes: what counts as an image, in any case; hidden files never do.
        skip: names of files that are neither image nor mask, as patterns such as ``*_color.png``.
        list: a text file that chooses samples, one a line: a stem, an image path, or an image and a mask path
            (between them a tab, or spaces where no path has any). Paths are relative to ``images`` (``masks``)
            or to ``data.root``.
        strip_prefix: removed from the start of every path in ``list``, for lists written on another machine.
    """

    def __init__(
        self,
        images: str | None = None,
        masks: str | None = None,
        image_name: str = "{stem}",
        mask_name: str = "{stem}.png",
        image_suffixes: Sequence[str] = IMAGE_SUFFIXES,
        skip: Sequence[str] = (),
        list: str | None = None,
        strip_prefix: str = "",
    ) -> None:
        self.image_suffixes = tuple(suffix.lower() for suffix in image_suffixes)
        self.names = NamePair(type(self).__name__, image_name, mask_name, self.image_suffixes)
        if list is not None and (self.names.whole or self.names.mask.parts != ("stem",)):
            raise ConfigError(f"Folder(mask_name={mask_name!r}) must hold {{stem}} and no other part: it has a list")
        if list is None and self.names.whole:
            images = "." if images is None else images
            masks = images if masks is None else masks
        if list is None and (images is None or masks is None):
            raise ConfigError("Folder needs both images and masks, or a list of image and mask paths")
        self.images = images
        self.masks = masks
        self.image_name = image_name
        self.mask_name = mask_name
        self.skip = tuple(skip)
        self.list = list
        self.strip_prefix = strip_prefix

    def samples(self, root: Path | None) -> list[Sample]:
        if self.list is not None:
            return listed_samples(
                resolve(self.list, root),
                self._places("images", self.images, root),
                self._places("masks", self.masks, root),
                self.image_suffixes,
                self.names,
                self.strip_prefix,
            )
        assert self.images is not None  # the constructor demands both without a list
        assert self.masks is not None
        images, masks = resolve(self.images, root), resolve(self.masks, root)
        image_files = files_of("images", self.images, root, self.skip)
        return self._matched(
            images,
            masks,
            image_files,
            image_files if masks == images else files_of("masks", self.masks, root, self.skip),
        )

    def _places(self, setting: str, given: str | None, root: Path | None) -> list[Path]:
        """Where the paths of a list are looked for."""
        found = {} if given is None else matching_folders(setting, given, root)
        if any(found):
            raise ConfigError(
                f"Folder({setting}={given!r}) means several folders, of which a list says nothing: leave images and "
                "masks out, and write both paths in each line, relative to data.root"
            )
        return [*found.values(), root or Path()]

    def _matched(
        self, images: Path, masks: Path, image_files: Mapping[str, Path], mask_files: Mapping[str, Path]
    ) -> list[Sample]:
        masks_of = _one_each(self.names.masks(mask_files), f"{masks} has several masks", "image", self.names.whole)
        mask_of = {name: mask_files[file] for name, file in masks_of.items()}
        taken = set(mask_of.values())
        named = self.names.images(file for file, path in image_files.items() if path not in taken)
        what = f"{images} has several images"
        images_of = _one_each(named, what, "mask", self.names.whole, ", or narrow image_suffixes")
        image_of = {name: image_files[file] for name, file in images_of.items()}
        if not image_of:
            raise DataError(
                f"{images} holds no image named {self.image_name!r} ({', '.join(self.names.image_suffixes)})"
                f"{examples(image_files)}: check data.root and the reader's images, image_name and image_suffixes"
            )
        files = {path: located(path) for of in (image_of, mask_of) for path in of.values()}
        lost = sorted(path for path, file in files.items() if isinstance(file, Path) and not os.path.isfile(path))
        unread = set(lost)
        samples = [
            Sample(name, files[image_of[name]], files[mask_of[name]])
            for name in sorted(image_of.keys() & mask_of.keys())
            if not unread & {image_of[name], mask_of[name]}
        ]
        without_mask = sorted(image_of.keys() - mask_of.keys())
        without_image = sorted(mask_of.keys() - image_of.keys())
        mismatches = Mismatches(images, masks)
        if without_mask:
            jpegs = self.names.masks(mask_files, LOSSY_SUFFIXES) if images != masks or self.names.whole else {}
            mismatches.add(
                f"{len(without_mask)} of {len(image_of)} images in {images} have no mask named {self.mask_name!r} "
                f"in {masks}: {summarise(without_mask)}; add the masks, remove the images, or mend mask_name"
                + self._advice(images_of[without_mask[0]], image_files, mask_files, any_mask=bool(mask_of)),
                [
                    Orphan("lossy_mask", mask_files[min(jpegs[name])], f"{LOSSY}: save it as {self.mask_name!r}")
                    if name in jpegs
                    else Orphan("orphan_image", image_of[name], f"has no mask named {self.mask_name!r} in {masks}")
                    for name in without_mask
                ],
            )
        shown = [_shown(masks_of[name], self.names.whole) for name in without_image]
        mismatches.add_masks_alone(shown, [mask_of[name] for name in without_image])
        mismatches.add_lost(lost)
        mismatches.refuse(samples)
        if self.names.whole:
            known = taken.union(image_of.values())
            self.names.tell_others(images, [file for file, path in image_files.items() if path not in known])
        return samples

    def _advice(self, image: str, image_files: Collection[str], mask_files: Collection[str], *, any_mask: bool) -> str:
        """Advice on what would pair them: other patterns, or a list."""
        if self.names.whole:
            there = "" if any_mask else examples(mask_files)
            return f", which is {self.names.mask_for(image)} for {image}{there}"
        images = [name for name in image_files if os.path.splitext(name)[1].lower() in self.image_suffixes]
        fitting = fitting_templates(images, mask_files, in_one=image_files is mask_files)
        if fitting is None or fitting == (self.image_name, self.mask_name):
            return ", or pair them in a text file, an image and a mask path a line: list: pairs.txt"
        image_name, mask_name = fitting
        if mask_name.lower().endswith(LOSSY_SUFFIXES):
            return f" ({mask_name!r} would fit, but {LOSSY}: export the masks as PNG)"
        settings = [f"image_name: {image_name!r}"] if image_name != self.image_name else []
        return f" ({' and '.join([*settings, f'mask_name: {mask_name!r}'])} would fit; or list: pairs.txt)"


def _shown(file: str, whole: bool) -> str:
    return file if whole else file.rpartition("/")[2]


def _one_each(
    found: Mapping[str, Sequence[str]], what: str, partner: str, whole: bool, advice: str = ""
) -> dict[str, str]:
    if doubles := [name for name, files in found.items() if len(files) > 1]:
        listed = [
            f"{name} ({', '.join(sorted(_shown(file, whole) for file in found[name]))})" for name in sorted(doubles)
        ]
        raise DataError(f"{what} of the same name for one {partner}: {summarise(listed)}; rename one of each{advice}")
    return {name: files[0] for name, files in found.items()}
