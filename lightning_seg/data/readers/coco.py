"""COCO's JSON: polygons and run-length encodings by category."""

import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning_seg.data.readers.reader import Orphan, OrphanError, Reader, resolve, unique_names
from lightning_seg.errors import DataError
from lightning_seg.structures import Annotations, Sample, Segment, SourceLabels, summarise


class Coco(Reader):
    """Images annotated in one COCO JSON file (what Detectron2's ``load_coco_json`` reads).

    Classes are the file's categories in the order of their ids, which may be any numbers, after ``background``. Where
    regions overlap, small ones lie over large ones, and all of them over crowds. Polygons of one annotation are united;
    only run-length encodings have holes.

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
        paths = {image["id"]: folder / image["file_name"] for image in content.images}
        missing = {identity: path for identity, path in paths.items() if not path.is_file()}
        names = unique_names([Path(image["file_name"]) for image in content.images])
        samples = [
            Sample(
                name,
                paths[image["id"]],
                Annotations(str(file), tuple(content.segments[image["id"]]), _size(image)),
            )
            for name, image in zip(names, content.images, strict=True)
            if image["id"] not in missing
        ]
        samples.sort(key=lambda sample: sample.name)
        if missing:
            raise OrphanError(
                f"{len(missing)} of {len(paths)} images that {file} names do not exist, such as "
                f"{next(iter(missing.values()))}: check data.root and the reader's images",
                samples,
                [
                    Orphan("orphan_mask", path, f"{file}, image {identity}, names it, but it does not exist")
                    for identity, path in missing.items()
                ],
            )
        return samples

    def release(self) -> None:
        _read.cache_clear()


class _Content:
    """A COCO file, checked for references that lead nowhere."""

    def __init__(self, file: Path) -> None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{file} does not exist: check data.root and the reader's annotations") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read as JSON ({error})") from None
        try:
            self.categories = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
            self.images: list[dict[str, Any]] = [
                {**image, "file_name": str(image["file_name"])} for image in content["images"]
            ]
            known = {image["id"] for image in self.images}
            self.segments: dict[Any, list[Segment]] = defaultdict(list)
            for entry in content.get("annotations", []):
                self._add(entry, known, file)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{file} is no COCO file: {type(error).__name__} {error} (needs images, annotations, categories)"
            ) from None
        if not self.images:
            raise DataError(f"{file} lists no image")

    def _add(self, entry: dict[str, Any], known: set[Any], file: Path) -> None:
        where = f"{file}, annotation {entry.get('id')}"
        if entry["image_id"] not in known:
            raise DataError(f"{where} belongs to image {entry['image_id']}, which the file does not list")
        if entry["category_id"] not in self.categories:
            raise DataError(
                f"{where} has category {entry['category_id']}, but the file lists {summarise(sorted(self.categories))}"
            )
        segment = Segment(
            entry.get("id", "without id"), entry["category_id"], entry.get("segmentation"), bool(entry.get("iscrowd"))
        )
        self.segments[entry["image_id"]].append(segment)


def labels_of_categories(categories: dict[int, str], background: str | None) -> SourceLabels:
    """Classes in the order of category ids, after the background where there is one."""
    names = [name for _, name in sorted(categories.items())]
    if background is not None:
        names.insert(0, background)
    return SourceLabels(tuple(dict.fromkeys(names)), dict(categories), {}, rest=background)


@lru_cache(maxsize=4)
def _read(file: Path) -> _Content:
    """Read once for labels and samples, and for all parts of a split, which a large file makes worth it."""
    return _Content(file)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    return (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
