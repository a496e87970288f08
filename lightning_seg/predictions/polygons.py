"""Regions of a label map as polygons along the edges of pixels, in GeoJSON."""

import json
from collections.abc import Iterator
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.predictions.prediction import Prediction

Ring = list[list[int]]
"""Corners ``[x, y]``, the first of which is the last one too."""


def polygons(prediction: Prediction, file: IO[bytes]) -> None:
    """A GeoJSON ``FeatureCollection``: a feature a region, with ``class``, ``class_id`` and ``pixels``.

    Coordinates are pixels, x to the right and y downward, from the upper left corner of the image.
    """
    file.write(b'{"type": "FeatureCollection", "features": [')
    for number, (class_id, pixels, rings) in enumerate(regions(prediction.labels)):
        feature = {
            "type": "Feature",
            "properties": {"class": prediction.info.names[class_id], "class_id": class_id, "pixels": pixels},
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        file.write((",\n" if number else "\n").encode() + json.dumps(feature).encode())
    file.write(b"\n]}\n")


def regions(labels: NDArray[Any]) -> Iterator[tuple[int, int, list[Ring]]]:
    """The regions of one class each whose pixels touch by an edge; together they cover the label map exactly.

    Args:
        labels: (H, W) class ids.

    Yields:
        The class id, the number of pixels, and the rings: the outer one, whose area is positive, then its holes, whose
        areas are negative. No ring crosses or touches itself.
    """
    for class_id in np.unique(labels).tolist():
        here = (labels == class_id).astype(np.uint8)
        count, parts, boxes, _ = cv2.connectedComponentsWithStats(here, connectivity=4)
        for part in range(1, count):
            left, top, width, height, pixels = boxes[part].tolist()
            region = parts[top : top + height, left : left + width] == part
            yield class_id, pixels, _rings(region, left, top)


def _rings(region: NDArray[np.bool_], left: int, top: int) -> list[Ring]:
    """The outer ring and the holes of a connected region.

    OpenCV joins the centres of a region's border pixels. Those of a picture twice as large lie a quarter of a pixel
    inside the edges, to which they are rounded.
    """
    doubled = region.repeat(2, 0).repeat(2, 1).astype(np.uint8)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    order = sorted(range(len(contours)), key=lambda place: tree[0][place][3] >= 0)  # holes have a parent
    rings = []
    for place in order:
        corners = _corners((contours[place][:, 0, :].astype(np.int64) + 1) // 2)
        x, y = corners.T
        area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
        if (area > 0) != (place == order[0]):
            corners = corners[::-1]
        ring = np.add(corners, (left, top)).tolist()
        rings.append([*ring, ring[0]])
    return rings


def _corners(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """A closed line without its points that are no corners."""
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: NDArray[np.int64] = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return turns
