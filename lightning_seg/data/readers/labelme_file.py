"""Reads one file of labelme: the path of its image, and its shapes as regions."""

import base64
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.readers.coco import stated_size
from lightning_seg.data.readers.text import read_text
from lightning_seg.data.reading import read_mask
from lightning_seg.data.reading.class_masks import covered
from lightning_seg.data.reading.storage import InMemory
from lightning_seg.errors import DataError

_FARTHEST = 1e9
"""No image has such a coordinate; below it, sizes are computed without an overflow."""

_LINES = ("point", "points", "line", "linestrip")
"""Kinds of shapes that cover no area."""


class Shape(NamedTuple):
    """A region.

    Attributes:
        annotation: its place in the file, from 1, kind and label, for messages.
        label: name of its class.
        region: polygons or run lengths, as COCO writes them.
    """

    annotation: str
    label: str
    region: Any


@dataclass(frozen=True, slots=True)
class LabelmeFile:
    """What a file says.

    Attributes:
        image_path: of its image, as it is written.
        size: height and width of the image as the file states them, or None.
        shapes: in the order in which they are drawn.
    """

    image_path: str
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]


def read_labelme(file: Path, skip_shapes: Collection[str] = ()) -> LabelmeFile:
    """Read a file.

    Args:
        file: the JSON.
        skip_shapes: kinds of shapes to leave out.

    Raises:
        DataError: if it is no labelme file, or has a shape that is broken, covers no area, or is of another kind.
    """
    try:
        content = json.loads(read_text(file, "annotations"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}): mend or remove it") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{file} is no labelme file, for it has no list of shapes: name it in the reader's skip")
    image_path = content.get("imagePath")
    if not isinstance(image_path, str) or not image_path.strip():
        raise DataError(f"{file} has imagePath {image_path!r}: expected the path of its image")
    size = stated_size({"height": content.get("imageHeight"), "width": content.get("imageWidth")}, f"{file}")
    shapes = [_shape(entry, number, file, size, skip_shapes) for number, entry in enumerate(content["shapes"], start=1)]
    return LabelmeFile(image_path, size, tuple(shape for shape in shapes if shape is not None))


def _shape(
    entry: Any, number: int, file: Path, size: tuple[int, int] | None, skip_shapes: Collection[str]
) -> Shape | None:
    if not isinstance(entry, dict):
        raise DataError(f"{file}, shape {number} is {str(entry)[:60]!r}: expected an object with label and points")
    kind = entry.get("shape_type") or "polygon"  # labelme 3 and older know nothing else
    if kind in skip_shapes:
        return None
    label = entry.get("label")
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{file}, shape {number} has the label {label!r}: expected the name of a class")
    annotation = f"{number} ({kind} {label!r})"
    where = f"{file}, shape {annotation}"
    if kind in _LINES:
        raise DataError(
            f"{where} covers no area: draw it as a polygon, or leave such shapes out with the reader's "
            f"skip_shapes: [{kind}]"
        )
    points = _points(entry.get("points"), where)
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        return Shape(annotation, label, [points.ravel().tolist()])
    if kind not in ("rectangle", "circle", "mask"):
        raise DataError(
            f"{where} is of a kind that is not known (polygon, rectangle, circle, mask): draw it as a polygon, or "
            f"leave such shapes out with the reader's skip_shapes: [{kind}]"
        )
    if len(points) != 2:
        raise DataError(f"{where} has {len(points)} points: expected 2")
    if kind == "rectangle":
        (left, top), (right, bottom) = points.tolist()
        return Shape(annotation, label, [[left, top, right, top, right, bottom, left, bottom]])
    if kind == "circle":
        return Shape(annotation, label, [_circle(points)])
    return Shape(annotation, label, _run_lengths(entry.get("mask"), points, size, where))


def _points(given: Any, where: str) -> NDArray[np.float64]:
    """Points as (n, 2).

    Raises:
        DataError: if they are none.
    """
    try:
        points = np.asarray(given)
    except (ValueError, OverflowError):  # lists of different lengths
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf":
        raise DataError(f"{where} has the points {str(given)[:60]}: expected [[x, y], [x, y], …]")
    points = points.astype(np.float64)
    if not (np.abs(points) < _FARTHEST).all():  # nor where one is no number
        raise DataError(f"{where} has the coordinate {points.flat[np.argmax(~(np.abs(points) < _FARTHEST))]:g}")
    return points


def _circle(points: NDArray[np.float64]) -> list[float]:
    """The polygon of a circle by its centre and a point on it, at most a twentieth of a pixel inside it."""
    radius = float(np.hypot(*(points[1] - points[0])))
    count = min(4096, max(16, math.ceil(10 * math.sqrt(radius))))
    angles = np.arange(count) * (2 * np.pi / count)
    outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return [float(value) for value in outline.ravel()]


def _run_lengths(given: Any, points: NDArray[np.float64], size: tuple[int, int] | None, where: str) -> dict[str, Any]:
    """The run lengths of a mask that is embedded as PNG, and lies between two pixels, both of them in it.

    Raises:
        DataError: if it is damaged, of another size, or reaches out of the image.
    """
    if size is None:
        raise DataError(f"{where} is a mask, but the file has no imageHeight and imageWidth: save it anew with labelme")
    try:
        data = base64.b64decode(given, validate=True)
    except (TypeError, ValueError):
        raise DataError(f"{where} has the mask {str(given)[:30]!r}: expected a PNG in base64") from None
    mask = InMemory(where, data)
    inside = covered(read_mask(mask), mask, None)
    (left, top), (right, bottom) = points.astype(np.int64).tolist()
    if inside.shape != (bottom - top + 1, right - left + 1):
        raise DataError(
            f"{where} has a mask of {inside.shape[1]}×{inside.shape[0]} pixels between points that are "
            f"{right - left + 1}×{bottom - top + 1} pixels apart"
        )
    if left < 0 or top < 0 or right >= size[1] or bottom >= size[0]:
        raise DataError(f"{where} has a mask that reaches out of its {size[1]}×{size[0]} image")
    columns = np.pad(inside.T.astype(np.int8), ((0, 0), (1, 1)))  # each column between two pixels outside
    steps = np.diff(columns, axis=1)
    column, row = np.nonzero(steps)  # starts and ends in turn
    changes = (left + column) * size[0] + top + row
    return {"size": list(size), "counts": np.diff([0, *changes.tolist(), size[0] * size[1]]).tolist()}
