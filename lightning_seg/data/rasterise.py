"""Polygons and run-length encodings, as COCO writes them, painted to class ids with pycocotools.

pycocotools hangs on coordinates that are no number, crashes the process on huge ones and reads past the end of broken
run lengths: whatever it would not survive is refused before it gets there, by annotation id.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from lightning_seg.data.labels import Ids, LabelTable
from lightning_seg.errors import DataError, UnreadableError
from lightning_seg.structures import Annotations, Segment

MARGIN = 1.0
"""How far outside the image a polygon may reach, in image sizes; real ones cross the border by a few pixels."""


def rasterise(annotations: Annotations, size: tuple[int, int], table: LabelTable) -> Ids:
    """Paint the regions of one image: crowds first, then large ones, so that small ones stay visible.

    Args:
        annotations: what to paint.
        size: height and width of the image.
        table: class ids of the categories and of what no region covers.

    Returns:
        (H, W) class ids and the ignore index.

    Raises:
        DataError: if the image has another size than stated.
        UnreadableError: if a region cannot be painted.
    """
    if annotations.size is not None and annotations.size != size:
        raise DataError(
            f"{annotations} states {annotations.size[1]}×{annotations.size[0]} pixels, but the image has "
            f"{size[1]}×{size[0]}: annotate the image as it is stored and turned by its EXIF orientation"
        )
    regions = [(segment, region_of(segment, size, annotations.file)) for segment in annotations.segments]
    return paint(regions, annotations, size, table)


def paint(
    regions: Sequence[tuple[Segment, NDArray[np.bool_]]], source: Annotations, size: tuple[int, int], table: LabelTable
) -> Ids:
    """As :func:`rasterise`, of some of the source's segments and the (H, W) that each covers.

    Raises:
        DataError: if the table does not know a category.
    """
    ids = np.full(size, table.rest, table.dtype)
    # sorting is stable: of two as large the later one lies above
    for segment, region in sorted(regions, key=lambda entry: (not entry[0].crowd, -int(np.count_nonzero(entry[1])))):
        ids[region] = table.id_of(segment.category, source)
    return ids


def region_of(segment: Segment, size: tuple[int, int], file: str) -> NDArray[np.bool_]:
    """One region as (H, W) bool, exactly as ``pycocotools.coco.COCO.annToMask`` gives it.

    Raises:
        UnreadableError: if its polygons or run lengths are broken, or would be for pycocotools.
    """
    where = f"{file}, annotation {segment.annotation}"
    if isinstance(segment.shape, dict):
        encoded = _checked_run_lengths(segment.shape, size, where)
    else:
        polygons = _checked_polygons(segment.shape, size, where)
        encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return np.asarray(coco_mask.decode(encoded), bool)


def _checked_polygons(shape: Any, size: tuple[int, int], where: str) -> list[list[float]]:
    if not isinstance(shape, list | tuple) or not shape:
        raise UnreadableError(f"{where} has no polygon: its segmentation should be a list of polygons, or run lengths")
    height, width = size
    polygons: list[list[float]] = []
    for polygon in shape:
        try:
            points = np.asarray(polygon, np.float64)
        except (TypeError, ValueError):
            points = np.empty((0, 0))
        if points.ndim != 1 or len(points) < 6 or len(points) % 2:
            raise UnreadableError(
                f"{where} has a polygon {str(polygon)[:60]}: expected [x0, y0, x1, y1, …], three points or more"
            )
        if not np.isfinite(points).all():
            raise UnreadableError(f"{where} has a polygon with a coordinate that is no number")
        low, high = points.min(), points.max()
        limit = (1 + MARGIN) * max(height, width)
        if low < -MARGIN * max(height, width) or high > limit:
            raise UnreadableError(
                f"{where} has a polygon that reaches from {low:g} to {high:g}, far outside its {width}×{height} image"
            )
        polygons.append(points.tolist())
    return polygons


def _checked_run_lengths(shape: dict[str, Any], size: tuple[int, int], where: str) -> Any:
    stated = shape.get("size")
    if not isinstance(stated, list | tuple) or tuple(stated) != size:
        raise UnreadableError(f"{where} has run lengths for {stated} (height, width), but the image is {list(size)}")
    counts = shape.get("counts")
    try:
        runs = _runs_of(counts) if isinstance(counts, str | bytes) else [_whole(run) for run in counts or []]
    except (TypeError, ValueError, IndexError):
        runs = [-1]
    if min(runs, default=-1) < 0 or sum(runs) != math.prod(size):
        raise UnreadableError(
            f"{where} has broken run lengths: they must cover the {size[1]}×{size[0]} pixels, no more or less"
        )
    return coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)


def _whole(run: Any) -> int:
    if run != int(run):
        raise ValueError(run)
    return int(run)


def _runs_of(counts: str | bytes) -> list[int]:
    """Run lengths of COCO's compressed form.

    Groups of five bits, lowest first, from character 48 on; bit 6 says that more follow, the sign is extended; from the
    fourth run on the difference to the run before the last is stored (``rleFrString`` in cocoapi's maskApi.c).
    """
    data = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    position = 0
    while position < len(data):
        value = shift = 0
        more = True
        while more:
            group = data[position] - 48
            if not 0 <= group < 64:
                raise ValueError(group)
            value |= (group & 31) << shift
            shift += 5
            more = bool(group & 32)
            position += 1
            if not more and group & 16:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
