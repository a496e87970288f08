"""Reads COCO's JSON: polygons and run-length encodings by category."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.finding import Finder, resolve, why_missing
from lightning_seg.data.readers.names import unique_names
from lightning_seg.data.readers.reader import Orphan, OrphanError, Reader
from lightning_seg.data.readers.text import read_text
from lightning_seg.errors import DataError
from lightning_seg.structures import Annotations, Sample, Segment, SourceLabels, summarise


class Coco(Reader):
    """Images annotated in one COCO JSON file (what Detectron2's ``load_coco_json`` reads).

    Classes are the file's categories in the order of their ids, which may be any numbers, after ``background``. Where
    regions overlap, small ones lie over large ones, and all of them over crowds. Polygons of one annotation are united;
    only run-length encodings have holes. Pixels of a category ``ignore`` do not count.

    Args:
        annotations: the JSON file.
        images: the folder that its ``file_name`` are relative to.
        background: class of what no region covers; null: those pixels are ignored.
    """

    def __init__(self, annotations: str, images: str, background: str | None = "background") -> None:
        self.annotations = annotations
        self.images = images
        self.background = background

    def labels(self, root: Path | None) -> SourceLabels:
        return labels_of_categories(_read(resolve(self.annotations, root)).categories, self.background)

    def samples(self, root: Path | None) -> list[Sample]:
        file, folder = resolve(self.annotations, root), resolve(self.images, root)
        content = _read(file)
        finder = Finder()
        samples: list[Sample] = []
        orphans: list[Orphan] = []
        seen: dict[Path, object] = {}
        names = unique_names([image["file_name"] for image in content.images])
        for name, image in zip(names, content.images, strict=True):
            identity, found = image["id"], finder.find(image["file_name"], [folder])
            if not found:
                path = resolve(image["file_name"], folder)
                detail = f"{file}, image {identity}, names it, but it does not exist"
                orphans.append(Orphan("orphan_mask", path, detail))
                continue
            if (first := seen.setdefault(found[0], identity)) != identity:
                raise DataError(
                    f"{file} lists {found[0]} twice, as images {first!r} and {identity!r}: give all its annotations "
                    "one image_id and remove the other image"
                )
            regions = Annotations(str(file), tuple(content.segments[identity]), image["size"], image=identity)
            samples.append(Sample(name, located(found[0]), regions))
        samples.sort(key=lambda sample: sample.name)
        if orphans:
            raise OrphanError(
                f"{len(orphans)} of {len(content.images)} images that {file} names are not there: "
                + why_missing(str(orphans[0].path), "data.root and the reader's images"),
                samples,
                orphans,
            )
        return samples

    def release(self) -> None:
        _read.cache_clear()


class _Content:
    """A COCO file, checked for ids that are there twice and references that lead nowhere.

    Attributes:
        categories: names by id.
        images: dicts with ``id``, ``file_name`` and ``size``, which is (height, width), or None where it is not stated.
        segments: of each image id.
    """

    def __init__(self, file: Path) -> None:
        text = read_text(file, "annotations")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} cannot be read as JSON ({error})") from None
        try:
            ids = [
                _whole(
                    entry["id"], f"{file}: the id of category {entry['name']!r}, and so its annotations' category_id,"
                )
                for entry in content["categories"]
            ]
            self.categories = dict(zip(ids, (str(entry["name"]) for entry in content["categories"]), strict=True))
            _refuse_doubles(file, "category id", ids, "give each category an id of its own")
            self.images = [_image(entry, file) for entry in content["images"]]
            known = [image["id"] for image in self.images]
            _refuse_doubles(
                file, "image id", known, "give each image an id of its own, and its annotations that image_id"
            )
            self.segments: dict[Any, list[Segment]] = {identity: [] for identity in known}
            for entry in content.get("annotations", []):
                self._add(entry, file)
        except (KeyError, TypeError, AttributeError) as error:
            fault = (
                f"something in it lacks {error}" if isinstance(error, KeyError) else "a part of it is of another kind"
            )
            raise DataError(
                f"{file} is no COCO file: {fault} (needs lists of images, annotations and categories, whose entries "
                "are objects)"
            ) from None
        if not self.images:
            raise DataError(f"{file} lists no image")

    def _add(self, entry: dict[str, Any], file: Path) -> None:
        where = f"{file}, annotation {entry.get('id')}"
        image, category = entry["image_id"], entry["category_id"]
        if image not in self.segments:
            raise DataError(
                f"{where} belongs to image {image!r}, which the file does not list: add it to the file's images, or "
                "remove the annotation"
            )
        if type(category) is not int:
            category = _whole(category, f"{where}: its category_id")
        if category not in self.categories:
            raise DataError(
                f"{where} has category {category}, but the file lists {summarise(sorted(self.categories))}: add it to "
                "the file's categories, or remove the annotation"
            )
        segment = Segment(
            entry.get("id", "without id"), category, entry.get("segmentation"), bool(entry.get("iscrowd"))
        )
        self.segments[image].append(segment)


def _image(entry: dict[str, Any], file: Path) -> dict[str, Any]:
    where = f"{file}, image {entry['id']!r}"
    name = entry["file_name"]
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: its file_name is {name!r}: expected a path")
    return {"id": entry["id"], "file_name": name, "size": stated_size(entry, where)}


def stated_size(entry: dict[str, Any], where: str) -> tuple[int, int] | None:
    """Height and width of an image; None where one is missing or null.

    Raises:
        DataError: if one is no whole number above 0 that an image may have.
    """
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None:
        return None
    size = _whole(height, f"{where}: its height"), _whole(width, f"{where}: its width")
    if min(size) < 1 or max(size) >= 2**31:
        raise DataError(f"{where}: its size is {size[1]}×{size[0]}: expected whole numbers above 0 and below 2³¹")
    return size


def _whole(value: Any, what: str) -> int:
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise DataError(f"{what} is {value!r}: expected a whole number")
    return int(value)


def _refuse_doubles(file: Path, what: str, ids: Sequence[Any], remedy: str) -> None:
    if doubles := [identity for identity, count in Counter(ids).items() if count > 1]:
        raise DataError(f"{file} has {what} {summarise(doubles)} more than once: {remedy}")


def labels_of_categories(categories: dict[int, str], background: str | None) -> SourceLabels:
    """Classes in the order of category ids, after the background where there is one."""
    names = [name for _, name in sorted(categories.items())]
    if background is not None:
        names.insert(0, background)
    return SourceLabels(tuple(dict.fromkeys(names)), dict(categories), {}, rest=background)


@lru_cache(maxsize=4)
def _read(file: Path) -> _Content:
    """Read a file once for labels and samples, and for all parts of a split: files may be large."""
    return _Content(file)
