"""Reads data sets that are registered with Detectron2's ``DatasetCatalog``."""

from collections import Counter
from pathlib import Path
from typing import Any

from lightning_seg.colours import Colour
from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.coco import labels_of_categories, stated_size
from lightning_seg.data.readers.names import common_folder, unique_names
from lightning_seg.data.readers.reader import Reader
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Annotations, Sample, Segment, SourceLabels, summarise


class Catalog(Reader):
    """A data set by the name that it is registered with, by Detectron2 itself or by a file in ``data.imports``.

    Its dicts have either ``sem_seg_file_name`` or ``annotations``. Values of a mask are indices of the metadata's
    ``stuff_classes``, or its ``ignore_label`` (255 where it has none). Categories of annotations are those of
    ``thing_classes``. Paths are as registered, not below ``data.root``.

    Args:
        name: as registered.
        background: for ``annotations``: class of what no region covers; null: those pixels are ignored.
    """

    def __init__(self, name: str, background: str | None = "background") -> None:
        self.name = name
        self.background = background
        self._loaded: list[dict[str, Any]] | None = None

    def labels(self, root: Path | None) -> SourceLabels:
        from detectron2.data import MetadataCatalog

        has_masks = "sem_seg_file_name" in self._dicts()[0]
        metadata = MetadataCatalog.get(self.name)
        kind = "stuff" if has_masks else "thing"
        names = metadata.get(f"{kind}_classes")
        if not names:
            raise ConfigError(
                f"data set {self.name!r} has no class names: "
                f"MetadataCatalog.get({self.name!r}).{kind}_classes = [...] in a file of data.imports"
            )
        if not has_masks:
            return labels_of_categories(dict(enumerate(names)), self.background)
        values: dict[int, str | None] = dict(enumerate(names))
        values[metadata.get("ignore_label", 255)] = None
        return SourceLabels(tuple(names), values, _palette(names, metadata.get("stuff_colors")))

    def samples(self, root: Path | None) -> list[Sample]:
        dicts = self._dicts()
        for number, entry in enumerate(dicts):
            if "file_name" not in entry or any("category_id" not in region for region in entry.get("annotations", ())):
                raise DataError(
                    f"data set {self.name!r}: entry {number} lacks file_name, or category_id in its annotations: it "
                    "should be one of Detectron2's dicts"
                )
        images = [Path(entry["file_name"]).absolute() for entry in dicts]
        if doubles := [path for path, count in Counter(images).items() if count > 1]:
            raise DataError(f"data set {self.name!r} has {summarise(doubles)} more than once: join its annotations")
        above = common_folder(images)
        names = unique_names([image.relative_to(above) for image in images])
        return [
            self._sample(name, entry)
            for name, entry in sorted(zip(names, dicts, strict=True), key=lambda pair: pair[0])
        ]

    def release(self) -> None:
        self._loaded = None

    def _dicts(self) -> list[dict[str, Any]]:
        from detectron2.data import DatasetCatalog

        if self._loaded is None:
            if self.name not in DatasetCatalog:
                raise ConfigError(
                    f"no data set is registered as {self.name!r}: name the file that registers it in data.imports; "
                    f"there are {summarise(sorted(set(DatasetCatalog.list())), limit=8)}"
                )
            try:
                self._loaded = list(DatasetCatalog.get(self.name))
            except Exception as error:  # the user's function: anything may come
                raise DataError(f"data set {self.name!r} cannot be loaded: {type(error).__name__}: {error}") from error
            if not self._loaded:
                raise DataError(f"data set {self.name!r} has no samples")
        return self._loaded

    def _sample(self, name: str, entry: dict[str, Any]) -> Sample:
        image = Path(entry["file_name"])
        if "sem_seg_file_name" in entry:
            return Sample(name, located(image), located(Path(entry["sem_seg_file_name"])))
        if "annotations" not in entry:
            raise DataError(f"data set {self.name!r}: {image} has neither sem_seg_file_name nor annotations")
        segments = tuple(
            Segment(number, region["category_id"], _plain(region.get("segmentation")), bool(region.get("iscrowd")))
            for number, region in enumerate(entry["annotations"])
        )
        where = f"data set {self.name!r}, {image}"
        return Sample(name, located(image), Annotations(where, segments, stated_size(entry, where)))


def _plain(shape: Any) -> Any:
    """Polygons as lists: users' functions often give arrays and tuples."""
    if isinstance(shape, dict) or shape is None:
        return shape
    return [list(polygon) for polygon in shape]


def _palette(names: list[str], colours: Any) -> dict[str, Colour]:
    if not colours:
        return {}
    return {name: (int(r), int(g), int(b)) for name, (r, g, b) in zip(names, colours, strict=False)}
