"""Reads what labelme writes: a JSON file of shapes for each image."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.finding import Finder, examples, files_of, resolve, why_missing
from lightning_seg.data.readers.folder import IMAGE_SUFFIXES
from lightning_seg.data.readers.labelme_file import LabelmeFile, read_labelme
from lightning_seg.data.readers.names import unique_names
from lightning_seg.data.readers.reader import Orphan, OrphanError, Reader
from lightning_seg.errors import DataError
from lightning_seg.structures import Annotations, Sample, Segment, SourceLabels, summarise

IGNORED, BACKGROUND = "__ignore__", "_background_"
"""Labels with which labelme marks pixels that do not count, and those of no class."""


class Labelme(Reader):
    """Images annotated with labelme: a JSON file for each, with polygons, rectangles, circles and masks.

    Classes are the labels in alphabetical order, after ``background``. Shapes are drawn in the order of the file, each
    over those before it, and cover the pixels that :class:`Coco` gives the same polygon. The label ``__ignore__`` means
    pixels that do not count, ``_background_`` those of no class. An image that is embedded in a file is not looked at.

    Args:
        annotations: folder of the JSON files; sub-folders are followed.
        images: folder of the images, in the same sub-folders; null: they lie where ``imagePath`` says, or beside their
            files.
        background: class of what no shape covers; null: those pixels are ignored.
        skip_shapes: kinds of shapes that are left out, such as ``point``, ``line`` and ``linestrip``, which cover no
            area and are refused otherwise.
        unannotated: images without a file in the folder of the images (of the files, where ``images`` is null) are an
            error (``refuse``), or left out (``skip``).
        skip: names of files that are neither image nor annotation, as patterns such as ``flags.json``.
    """

    def __init__(
        self,
        annotations: str,
        images: str | None = None,
        background: str | None = "background",
        skip_shapes: Sequence[str] = (),
        unannotated: Literal["refuse", "skip"] = "refuse",
        skip: Sequence[str] = (),
    ) -> None:
        self.annotations = annotations
        self.images = images
        self.background = background
        self.skip_shapes = tuple(skip_shapes)
        self.unannotated = unannotated
        self.skip = tuple(skip)
        self._read: tuple[Path | None, _Contents] | None = None

    def labels(self, root: Path | None) -> SourceLabels:
        special = {IGNORED: None, BACKGROUND: self.background}
        values = {number: special.get(label, label) for number, label in enumerate(self._contents(root).labels)}
        names = filter(None, [self.background, *values.values()])
        return SourceLabels(tuple(dict.fromkeys(names)), values, {}, rest=self.background)

    def samples(self, root: Path | None) -> list[Sample]:
        contents = self._contents(root)
        category = {label: number for number, label in enumerate(contents.labels)}
        finder = Finder()
        samples, orphans = [], [orphan for _, orphan in contents.broken]
        owners: dict[Path, Path] = {}
        names = unique_names([relative for relative, _, _ in contents.files])
        for name, (relative, path, content) in zip(names, contents.files, strict=True):
            places = self._places(relative, path, content.image_path, root)
            image = _image_at(places, path, finder)
            if image is None:
                looked = resolve(*places[0])
                detail = f"{path} names image {content.image_path!r}, but {why_missing(looked, _SETTINGS)}"
                orphans.append(Orphan("orphan_mask", path, detail))
                continue
            if (first := owners.setdefault(image, path)) != path:
                raise DataError(f"{first} and {path} belong to one image, {image}: put all its shapes into one of them")
            segments = tuple(Segment(shape.annotation, category[shape.label], shape.region) for shape in content.shapes)
            regions = Annotations(str(path), segments, content.size, in_order=True)
            samples.append(Sample(name, located(image), regions))
        if self.unannotated == "refuse":
            excused = {os.path.splitext(relative)[0] for relative, _ in contents.broken}
            for relative, path in sorted(self._image_files(root).items()):
                stem, suffix = os.path.splitext(relative)
                if suffix.lower() in IMAGE_SUFFIXES and stem not in excused and _plain(path) not in owners:
                    orphans.append(Orphan("orphan_image", path, _UNANNOTATED))
        samples.sort(key=lambda sample: sample.name)
        if orphans:
            raise OrphanError(_message(orphans), samples, orphans)
        return samples

    def release(self) -> None:
        self._read = None

    def _contents(self, root: Path | None) -> "_Contents":
        """All files, read once for labels and samples."""
        if self._read is None or self._read[0] != root:
            below = files_of("annotations", self.annotations, root, self.skip)
            contents = _Contents(below)
            for relative, path in sorted(below.items()):
                if relative.lower().endswith(".json"):
                    try:
                        contents.files.append((relative, path, read_labelme(path, self.skip_shapes)))
                    except DataError as error:
                        contents.broken.append((relative, Orphan("unreadable", path, str(error))))
            if not contents.files and not contents.broken:
                folder = resolve(self.annotations, root)
                raise DataError(
                    f"{folder} holds no labelme file (.json){examples(below)}: check data.root and the reader's "
                    "annotations"
                )
            self._read = root, contents
        return self._read[1]

    def _places(self, relative: str, path: Path, image_path: str, root: Path | None) -> list[tuple[str, Path]]:
        """The names that an image may have and the folders that they are relative to, the likeliest first."""
        last = re.split(r"[/\\]", image_path.strip())[-1]
        by_path = [(image_path, path.parent), (last, path.parent)]
        if self.images is None:
            return by_path
        return [(last, resolve(self.images, root) / os.path.dirname(relative)), *by_path]

    def _image_files(self, root: Path | None) -> Mapping[str, Path]:
        return self._contents(root).below if self.images is None else files_of("images", self.images, root, self.skip)


@dataclass
class _Contents:
    """What was read.

    Attributes:
        below: all files below the folder, by relative path.
        files: relative path, path and content of each labelme file.
        broken: relative path of each that cannot be used, and why.
    """

    below: Mapping[str, Path]
    files: list[tuple[str, Path, LabelmeFile]] = field(default_factory=list)
    broken: list[tuple[str, Orphan]] = field(default_factory=list)

    @cached_property
    def labels(self) -> list[str]:
        return sorted({shape.label for _, _, content in self.files for shape in content.shapes})


_SETTINGS = "imagePath, and the reader's images"
_UNANNOTATED = "has no labelme file: annotate it, or leave such images out with unannotated: skip"


def _image_at(places: Sequence[tuple[str, Path]], path: Path, finder: Finder) -> Path | None:
    for name, folder in places:
        found = finder.find(name, [folder])
        if len(found) > 1:
            raise DataError(
                f"{path} names image {name!r}, which may be {' or '.join(map(str, found))}: mend its imagePath, or "
                "rename one of them"
            )
        if found:
            return _plain(found[0])
    return None


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _message(orphans: Sequence[Orphan]) -> str:
    """What is wrong with all of them, by kind, with the first ones."""
    messages = []
    for kind in dict.fromkeys(orphan.kind for orphan in orphans):
        some = [orphan for orphan in orphans if orphan.kind == kind]
        if kind == "orphan_image":
            names = summarise([str(orphan.path) for orphan in some])
            messages.append(
                f"{len(some)} images have no labelme file: {names}; annotate them, or write unannotated: skip"
            )
        else:
            more = f" (and {len(some) - 1} more such)" if len(some) > 1 else ""
            messages.append(some[0].detail + more)
    return "; ".join(messages)
