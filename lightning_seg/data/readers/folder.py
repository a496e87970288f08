"""A folder of images and a folder of masks, matched by name, or a list file that pairs them."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lightning_seg.data.readers.pairing import complete, pair
from lightning_seg.data.readers.reader import Orphan, OrphanError, Reader, resolve
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Sample, summarise

_LOSSY_SUFFIXES = (".jpg", ".jpeg")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class Folder(Reader):
    """Images and masks in two folders, or in one.

    Sub-folders are followed, and a mask lies in the same sub-folder as its image.

    Args:
        images: folder of the images. May be left out where ``list`` gives the paths of images and masks.
        masks: folder of the masks; may be the same folder.
        image_name: the image's name without suffix, where ``{stem}`` is what its mask's name shares: files that are
            not named so are no images.
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
        images = _existing_folder("images", self.images, root)
        masks = _existing_folder("masks", self.masks, root)
        if self.list is not None:
            return self._listed(resolve(self.list, root), root, images, masks)
        assert images is not None  # the constructor demands both without a list
        assert masks is not None
        return self._matched(images, masks)

    def _matched(self, images: Path, masks: Path) -> list[Sample]:
        is_image, is_mask = _pattern(self.image_name), _pattern(Path(self.mask_name).stem)
        mask_suffix = Path(self.mask_name).suffix.lower()

        def looks_like_a_mask(path: Path) -> re.Match[str] | None:
            return is_mask.fullmatch(path.stem) if path.suffix.lower() == mask_suffix else None

        image_of: dict[str, Path] = {}
        doubles: set[str] = set()
        for path in self._files_below(images):
            match = is_image.fullmatch(path.stem)
            if path.suffix.lower() not in self.image_suffixes or match is None:
                continue
            if images == masks and looks_like_a_mask(path):
                continue
            name = _name(path, images, match[1])
            if name in image_of:
                doubles.add(name)
            image_of[name] = path
        if not image_of:
            raise DataError(
                f"{images} holds no image named {self.image_name!r} ({', '.join(self.image_suffixes)}): "
                "check data.root and the reader's images, image_name and image_suffixes"
            )
        if doubles:
            raise DataError(
                f"{images} has several images of the same name for one mask: {summarise(sorted(doubles))}; "
                "rename one of each, or narrow image_suffixes"
            )

        mask_of: dict[str, Path] = {}
        for path in self._files_below(masks):
            if match := looks_like_a_mask(path):
                mask_of[_name(path, masks, match[1])] = path
        samples = [Sample(name, image_of[name], mask_of[name]) for name in sorted(image_of) if name in mask_of]
        without_mask = sorted(image_of.keys() - mask_of.keys())
        without_image = sorted(mask_of.keys() - image_of.keys())
        messages = []
        if without_mask:
            messages.append(
                f"{len(without_mask)} of {len(image_of)} images in {images} have no mask named {self.mask_name!r} "
                f"in {masks}: {summarise(without_mask)}; add the masks, remove the images, or mend mask_name"
            )
        if without_image:
            messages.append(
                f"{len(without_image)} masks in {masks} have no image in {images}: "
                f"{summarise([mask_of[name].name for name in without_image])}; add the images or remove the masks"
            )
        if messages:
            jpeg_of = {
                _name(path, masks, match[1]): path
                for path in (self._files_below(masks) if images != masks else ())
                if path.suffix.lower() in _LOSSY_SUFFIXES and (match := is_mask.fullmatch(path.stem))
            }
            orphans = [
                Orphan("lossy_mask", jpeg_of[name], f"JPEG changes label values: save it as {self.mask_name!r}")
                if name in jpeg_of
                else Orphan("orphan_image", image_of[name], f"has no mask named {self.mask_name!r} in {masks}")
                for name in without_mask
            ]
            orphans += [Orphan("orphan_mask", mask_of[name], f"has no image in {images}") for name in without_image]
            raise OrphanError("; ".join(messages), samples, orphans)
        return samples

    def _files_below(self, folder: Path) -> Iterator[Path]:
        return (
            path for path in files_below(folder) if not any(fnmatchcase(path.name, pattern) for pattern in self.skip)
        )

    def _listed(self, file: Path, root: Path | None, images: Path | None, masks: Path | None) -> list[Sample]:
        if not file.is_file():
            raise DataError(f"list file {file} does not exist: check data.root and the reader's list")
        image_folders = [folder for folder in (images, root or Path()) if folder is not None]
        mask_folders = [folder for folder in (masks, root or Path()) if folder is not None]
        seen: dict[str, int] = {}
        samples: list[Sample] = []
        orphans: list[Orphan] = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            columns = [column.removeprefix(self.strip_prefix) for column in self._columns(line, where)]
            name = Path(columns[0])
            has_suffix = name.suffix.lower() in self.image_suffixes
            image_names = columns[:1] if has_suffix else [columns[0] + suffix for suffix in self.image_suffixes]
            name = name.with_suffix("") if has_suffix else name
            mask_name = (name.parent / self.mask_name.format(stem=name.name)).as_posix()
            mask_name = columns[1] if len(columns) == 2 else mask_name
            found = pair(image_names, image_folders, mask_name, mask_folders, where, may_strip=True)
            if name.as_posix() in seen:
                raise DataError(f"{where} names {name} again, first seen in line {seen[name.as_posix()]}: remove one")
            seen[name.as_posix()] = number
            if isinstance(found, Orphan):
                orphans.append(found)
            else:
                samples.append(Sample(name.as_posix().lstrip("/"), *found))
        if not seen:
            raise DataError(f"list file {file} is empty: it should hold one sample a line")
        return complete(samples, orphans)

    def _columns(self, line: str, where: str) -> list[str]:
        split = line.split("\t") if "\t" in line else line.split()
        columns = [column.strip() for column in split if column.strip()]
        if len(columns) > 2:
            raise DataError(
                f"{where} has {len(columns)} columns: expected a stem, an image path, or an image and a mask path; "
                "separate paths that hold spaces with a tab"
            )
        return columns


def _existing_folder(what: str, path: str | None, root: Path | None) -> Path | None:
    if path is None:
        return None
    folder = resolve(path, root)
    if not folder.is_dir():
        raise DataError(f"folder of {what} {folder} does not exist: check data.root and the reader's {what}")
    return folder


def _pattern(template: str) -> re.Pattern[str]:
    before, after = template.split("{stem}")
    return re.compile(re.escape(before) + "(.+)" + re.escape(after))


def _name(path: Path, folder: Path, stem: str) -> str:
    """A sample's name; composed, because macOS stores ä as two characters and other systems as one."""
    return unicodedata.normalize("NFC", (path.relative_to(folder).parent / stem).as_posix())


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder in a fixed order, through links, without hidden ones (``._x.png`` of macOS)."""
    yield from sorted(path for path in entries_below(folder) if path.is_file())


def entries_below(folder: Path) -> Iterator[Path]:
    """The same in any order, unchecked (a link may lead nowhere), and no further than it is asked for."""
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in names if not name.startswith("."))
