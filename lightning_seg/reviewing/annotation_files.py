"""Adds ignored regions to the files of COCO and of labelme, so that their readers ignore exactly these pixels."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from lightning_seg.data.labels.label_map import IGNORE
from lightning_seg.data.labels.rasterise import rasterise, visible_segments
from lightning_seg.data.labels.table import Ids, LabelTable
from lightning_seg.data.readers.labelme import IGNORED
from lightning_seg.data.readers.text import read_text
from lightning_seg.errors import DataError
from lightning_seg.reviewing.encoding import Pixels, as_png
from lightning_seg.structures import Annotations, Sample, Segment


class AnnotationFile:
    """A file of annotations, to which ignored regions are added.

    COCO's get the category ``ignore``, or one that is ignored already. labelme's get shapes ``__ignore__``.

    Args:
        source: the labels of one of its images.
        table: what its categories mean.
    """

    def __init__(self, source: Annotations, table: LabelTable) -> None:
        self.path = Path(source.file)
        self.table = table
        try:
            self.content: dict[str, Any] = json.loads(read_text(self.path, "annotations"))
        except ValueError as error:
            raise DataError(f"{self.path} has changed since it was listed: it is no JSON ({error})") from None
        self.changed = False

    @staticmethod
    def path_of(sample: Sample) -> Path:
        """The file of a sample.

        Raises:
            DataError: if its labels are in none that can be written.
        """
        assert isinstance(sample.mask, Annotations)
        if sample.mask.image is None and not sample.mask.in_order:
            raise DataError(
                f"{sample.name}: its labels are regions of {sample.mask}, which no file holds: mend them where they "
                "come from"
            )
        return Path(sample.mask.file)

    def ignore(self, sample: Sample, region: Pixels, labels: Ids) -> None:
        """Add the region of one image.

        Args:
            sample: the image with its labels.
            region: (H, W).
            labels: (H, W) class ids that it has now.

        Raises:
            DataError: if its reader would then read anything else than these pixels as ignored.
        """
        source = sample.mask
        assert isinstance(source, Annotations)
        added = self._to_labelme(region) if source.in_order else self._to_coco(source, region, labels.shape)
        category = max([0, *self.table.values]) + 1
        segments = [Segment("added", category, shape) for shape in added]
        expected = np.where(region, self.table.info.ignore_index, labels)
        found = rasterise(
            replace(source, segments=(*source.segments, *segments)),
            (labels.shape[0], labels.shape[1]),
            self.table.with_value(category, self.table.info.ignore_index),
        )
        if not np.array_equal(found, expected):
            raise DataError(f"{sample.name}: {source} would read otherwise than it should with its regions ignored")
        self.changed = True

    def data(self) -> bytes | None:
        """The new bytes; None if nothing was added."""
        if not self.changed:
            return None
        return json.dumps(self.content, indent=2 if "shapes" in self.content else None).encode()

    def _to_labelme(self, region: Pixels) -> list[Any]:
        """Draw the region over all other shapes, as a mask between its first and last pixel."""
        rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
        top, bottom, left, right = (int(one) for one in (rows[0], rows[-1], columns[0], columns[-1]))
        inside = region[top : bottom + 1, left : right + 1].astype(np.uint8)
        self.content["imageHeight"], self.content["imageWidth"] = region.shape  # a mask needs them
        self.content["shapes"].append(
            {
                "label": IGNORED, "points": [[left, top], [right, bottom]], "group_id": None, "description": "",
                "shape_type": "mask", "flags": {},
                "mask": base64.b64encode(as_png(inside)).decode(),
            }
        )  # fmt: skip
        return [_run_lengths(region)]

    def _to_coco(self, source: Annotations, region: Pixels, size: tuple[int, ...]) -> list[Any]:
        """Add an annotation for the part of the region in each segment that is seen there.

        A part is no larger than its segment and comes later, so that it lies above it, and above all that is below.
        """
        seen = visible_segments(source, (size[0], size[1]))
        known = [int(entry["id"]) for entry in self.content["annotations"] if str(entry.get("id")).isdecimal()]
        number = max(known, default=0)
        shapes = []
        for segment in np.unique(seen[region]):
            part = region & (seen == segment)
            number += 1
            shapes.append(_run_lengths(part))
            area, box = coco_mask.area(shapes[-1]), coco_mask.toBbox(shapes[-1])
            self.content["annotations"].append(
                {
                    "id": number, "image_id": source.image, "category_id": self._category(),
                    "segmentation": shapes[-1], "area": int(area), "bbox": [int(one) for one in box], "iscrowd": 0,
                }
            )  # fmt: skip
        return shapes

    def _category(self) -> Any:
        """The id of an ignored category, which is added if there is none."""
        categories = self.content["categories"]
        ignored = self.table.ignored_values
        for entry in categories:
            if int(entry["id"]) in ignored or entry["name"] == IGNORE:
                return entry["id"]
        number = max((int(entry["id"]) for entry in categories), default=0) + 1
        categories.append({"id": number, "name": IGNORE, "supercategory": IGNORE})
        return number


def _run_lengths(region: Pixels) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(region, np.uint8))
    return {"size": list(region.shape), "counts": runs["counts"].decode()}
