"""Reads a folder of images and a folder of masks, matched by name or paired by a list file."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.finding import matching_folders, resolve, why_missing
from lightning_seg.data.readers.listed import listed_samples
from lightning_seg.data.readers.names import sample_name
from lightning_seg.data.readers.reader import Orphan, OrphanError, Reader
from lightning_seg.data.readers.templates import fitting_templates, pattern
from lightning_seg.data.readers.walking import entries_below
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Sample, summarise

_LOSSY_SUFFIXES = (".jpg", ".jpeg")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class Folder(Reader):
    """Images and masks in two folders, or in one.

    Sub-folders are followed, and a mask lies in the same sub-folder as its image.

    Args:
        images: folder of the images, or several: in ``*/images``, ``*`` is any folder, and the mask of an image lies in
            the folder of ``*/masks`` with the same name. May be left out where ``list`` gives all paths.
        masks: folder of the masks, or several; may be the same folder.
        image_name: pattern of an image's name without suffix; ``{stem}`` is the part that its mask's name shares.
            Files of other names are no images.
        mask_name: the mask's file name, with the same ``{stem}``; its suffix in any case.
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
        for setting, name in (("image_name", image_name), ("mask_name", mask_name)):
            if name.count("{stem}") != 1:
                raise ConfigError(f"Folder({setting}={name!r}) must hold {{stem}} once, such as '{{stem}}_mask.png'")
        if list is None and (images is None or masks is None):
            raise ConfigError("Folder needs both images and masks, or a list of image and mask paths")
        self.images = images
        self.masks = masks
        self.image_name = image_name
        self.mask_name = mask_name
        self.image_suffixes = tuple(suffix.lower() for suffix in image_suffixes)
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
                self.mask_name,
                self.strip_prefix,
            )
        assert self.images is not None  # the constructor demands both without a list
        assert self.masks is not None
        return self._matched(
            resolve(self.images, root),
            resolve(self.masks, root),
            self._files("images", self.images, root),
            self._files("masks", self.masks, root),
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

    def _files(self, setting: str, given: str, root: Path | None) -> dict[str, Path]:
        """Files below a folder, or below all folders that match, by scene, sub-folders and file name."""
        return {
            "/".join([*([scene] if scene else []), *path.parts[len(folder.parts) :]]): path  # relative_to takes longer
            for scene, folder in matching_folders(setting, given, root).items()
            for path in entries_below(folder)
            if not any(fnmatchcase(path.name, skipped) for skipped in self.skip)
        }

    def _matched(
        self, images: Path, masks: Path, image_files: Mapping[str, Path], mask_files: Mapping[str, Path]
    ) -> list[Sample]:
        stem, suffix = os.path.splitext(self.mask_name)
        mask_of = _one_each(_by_name(mask_files, stem, [suffix.lower()]), f"{masks} has several masks", "image")
        if images == masks:
            taken = set(mask_of.values())
            image_files = {name: path for name, path in image_files.items() if path not in taken}
        named = _by_name(image_files, self.image_name, self.image_suffixes)
        image_of = _one_each(named, f"{images} has several images", "mask", ", or narrow image_suffixes")
        if not image_of:
            raise DataError(
                f"{images} holds no image named {self.image_name!r} ({', '.join(self.image_suffixes)}): "
                "check data.root and the reader's images, image_name and image_suffixes"
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
        messages = []
        if without_mask:
            messages.append(
                f"{len(without_mask)} of {len(image_of)} images in {images} have no mask named {self.mask_name!r} "
                f"in {masks}: {summarise(without_mask)}; add the masks, remove the images, or mend mask_name"
                + self._advice(image_files, mask_files, in_one=images == masks)
            )
        if without_image:
            messages.append(
                f"{len(without_image)} masks in {masks} have no image in {images}: "
                f"{summarise([mask_of[name].name for name in without_image])}; add the images or remove the masks"
            )
        if lost:
            messages.append(f"{len(lost)} files cannot be opened, the first of them: {why_missing(lost[0])}")
        if messages:
            jpegs = _by_name(mask_files, stem, _LOSSY_SUFFIXES) if images != masks else {}
            orphans = [
                Orphan("lossy_mask", min(jpegs[name]), f"JPEG changes label values: save it as {self.mask_name!r}")
                if name in jpegs
                else Orphan("orphan_image", image_of[name], f"has no mask named {self.mask_name!r} in {masks}")
                for name in without_mask
            ]
            orphans += [Orphan("orphan_mask", mask_of[name], f"has no image in {images}") for name in without_image]
            orphans += [Orphan("unreadable", path, why_missing(path)) for path in lost]
            raise OrphanError("; ".join(messages), samples, orphans)
        return samples

    def _advice(self, image_files: Iterable[str], mask_files: Collection[str], *, in_one: bool) -> str:
        """Advice on what would pair them: other patterns, or a list."""
        images = [name for name in image_files if os.path.splitext(name)[1].lower() in self.image_suffixes]
        fitting = fitting_templates(images, mask_files, in_one=in_one)
        if fitting is None or fitting == (self.image_name, self.mask_name):
            return ", or pair them in a text file, an image and a mask path a line: list: pairs.txt"
        image_name, mask_name = fitting
        settings = [f"image_name: {image_name!r}"] if image_name != self.image_name else []
        return f" ({' and '.join([*settings, f'mask_name: {mask_name!r}'])} would fit; or list: pairs.txt)"


def _by_name(files: Mapping[str, Path], template: str, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """The files that are named as a pattern says, by the names of their samples."""
    named = pattern(template)
    found: dict[str, list[Path]] = {}
    for name, path in files.items():
        stem, suffix = os.path.splitext(path.name)
        if suffix.lower() in suffixes and (match := named.fullmatch(stem)):
            found.setdefault(sample_name(os.path.join(os.path.dirname(name), match[1])), []).append(path)
    return found


def _one_each(found: Mapping[str, Sequence[Path]], what: str, partner: str, advice: str = "") -> dict[str, Path]:
    if doubles := [name for name, paths in found.items() if len(paths) > 1]:
        listed = [f"{name} ({', '.join(sorted(path.name for path in found[name]))})" for name in sorted(doubles)]
        raise DataError(f"{what} of the same name for one {partner}: {summarise(listed)}; rename one of each{advice}")
    return {name: paths[0] for name, paths in found.items()}
