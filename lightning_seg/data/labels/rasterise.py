"""Paints polygons and run-length encodings, as COCO writes them, to class ids.

The plain equivalent is ``pycocotools.coco.COCO.annToMask`` and NumPy's indexing, which give the same pixels. Here each
region costs only its own pixels, not those of the whole image.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from lightning_seg.data.labels.table import Ids, LabelTable
from lightning_seg.errors import DataError, UnreadableError
from lightning_seg.structures import Annotations, Segment

MARGIN = 1.0
"""How far a polygon may reach outside the image, in image sizes; real polygons cross the border by a few pixels."""

_FEW_RUNS = 20_000
"""Up to this number of runs, writing them one by one is faster than one selection over a region's columns."""

_MOST_GROUPS = 7
"""How many groups of five bits a run length may have: 35 bits count more pixels than an image has."""


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels of one segment.

    Attributes:
        segment: what they belong to.
        runs: lengths, int64, down the columns one after the other, outside and inside in turn; outside comes first.
    """

    segment: Segment
    runs: NDArray[np.int64]

    @property
    def pixels(self) -> int:
        return int(self.runs[1::2].sum())

    def paint(self, columns: NDArray[Any], value: int) -> None:
        """Give its pixels a value.

        Args:
            columns: (H·W,), the image column by column.
            value: class id, or any number.
        """
        ends = np.cumsum(self.runs)
        starts, ends = ends[:-1:2], ends[1::2]
        if len(ends) <= _FEW_RUNS:
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                columns[start:end] = value
        else:
            inside = np.arange(1, 2 * len(ends)) % 2 == 1
            columns[starts[0] : ends[-1]][np.repeat(inside, self.runs[1 : 2 * len(ends)])] = value


def rasterise(annotations: Annotations, size: tuple[int, int], table: LabelTable) -> Ids:
    """Paint the regions of one image: in their order, or crowds first, then large ones, so that small ones are visible.

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
    regions = [region_of(segment, size, annotations.file) for segment in annotations.segments]
    return paint(regions, annotations, size, table)


def paint(regions: Iterable[Region], source: Annotations, size: tuple[int, int], table: LabelTable) -> Ids:
    """Do as :func:`rasterise`, with some of the source's segments.

    Raises:
        DataError: if the table does not know a category.
    """
    columns = np.full((size[1], size[0]), table.rest, table.dtype)
    flat = columns.reshape(-1)
    for region in _lowest_first(regions, source):
        region.paint(flat, table.id_of(region.segment.category, source))
    return np.asarray(cv2.transpose(columns))


def visible_segments(source: Annotations, size: tuple[int, int]) -> NDArray[np.int32]:
    """Which segment is seen at each pixel: (H, W), numbers from 1 from the lowest to the highest, 0 where none is.

    Raises:
        UnreadableError: if a region cannot be painted.
    """
    columns = np.zeros((size[1], size[0]), np.int32)
    regions = [region_of(segment, size, source.file) for segment in source.segments]
    for number, region in enumerate(_lowest_first(regions, source), start=1):
        region.paint(columns.reshape(-1), number)
    return np.asarray(cv2.transpose(columns))


def _lowest_first(regions: Iterable[Region], source: Annotations) -> Iterable[Region]:
    if source.in_order:
        return regions
    # sorting is stable: the later of two equally large regions lies above
    return sorted(regions, key=lambda region: (not region.segment.crowd, -region.pixels))


def region_of(segment: Segment, size: tuple[int, int], file: str) -> Region:
    """The pixels of one segment in an image of (height, width).

    Raises:
        UnreadableError: if its polygons or run lengths are broken, or would be for pycocotools.
    """
    where = f"{file}, annotation {segment.annotation}"
    if isinstance(segment.shape, dict):
        return Region(segment, _checked_run_lengths(segment.shape, size, where))
    polygons = _checked_polygons(segment.shape, size, where)
    encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return Region(segment, _runs_of(encoded["counts"]))


def _checked_polygons(shape: Any, size: tuple[int, int], where: str) -> list[list[float]]:
    if not isinstance(shape, list | tuple) or not shape:
        raise UnreadableError(
            f"{where} has no polygon: its segmentation should be a list of polygons, or run lengths; "
            "data.unreadable: skip leaves annotations without a region out"
        )
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


def _checked_run_lengths(shape: dict[str, Any], size: tuple[int, int], where: str) -> NDArray[np.int64]:
    stated = shape.get("size")
    if not isinstance(stated, list | tuple) or tuple(stated) != size:
        raise UnreadableError(f"{where} has run lengths for {stated} (height, width), but the image is {list(size)}")
    counts = shape.get("counts")
    try:
        runs = _runs_of(counts) if isinstance(counts, str | bytes) else _plain_runs(counts)
    except (TypeError, ValueError, OverflowError):
        runs = np.array([-1])
    if not len(runs) or runs.min() < 0 or runs.sum() != math.prod(size):
        raise UnreadableError(
            f"{where} has broken run lengths: they must cover the {size[1]}×{size[0]} pixels, no more or less"
        )
    return runs


def _plain_runs(counts: Any) -> NDArray[np.int64]:
    given = np.asarray(counts)
    if given.ndim != 1 or given.dtype.kind not in "iuf" or not (abs(given) < 2**31).all() or (given % 1).any():
        raise ValueError(counts)
    return given.astype(np.int64)


def _runs_of(counts: str | bytes) -> NDArray[np.int64]:
    """Decode the run lengths of COCO's compressed form (``rleFrString`` in cocoapi's maskApi.c).

    A number is stored in groups of five bits, lowest first, as characters from 48 on. Bit 6 says that more groups
    follow; the sign is extended. From the fourth run on, the difference to the run before the last is stored.

    Raises:
        ValueError: if the text is no such form.
    """
    data = counts.encode("ascii") if isinstance(counts, str) else counts
    groups = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError(counts)
    last = np.flatnonzero(groups < 32)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MOST_GROUPS:
        raise ValueError(counts)
    shifts = 5 * (np.arange(len(groups)) - np.repeat(first, lengths))
    runs = np.add.reduceat((groups & 31) << shifts, first)
    runs -= np.where(groups[last] & 16, np.int64(1) << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
