"""Finds the regions of one image in which a network is sure of another class than the label."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from lightning_seg.data.labels.rasterise import region_of
from lightning_seg.errors import UnreadableError
from lightning_seg.structures import Segment

FLOOR = 1e-3
"""Added to probabilities before their quotient: a network that says 0 is not infinitely sure."""

UNIT = 2.0**-17
"""Share of the image that counts as one unit of size: about a pixel of 480×360."""

LEAST_UNITS = 16
"""Units of the smallest region."""

LEAST_PIXELS = 8
"""Pixels of the smallest region, in small images."""

LEAST_EVIDENCE = 4.0
"""Evidence of the weakest region that is kept."""

SHARE_WEIGHT = 2.0
"""Evidence that is taken off each time a region's share of what the network sees there falls by a factor of e."""

Labels = NDArray[Any]


@dataclass(frozen=True)
class Region:
    """A connected region of one label in which one other class is predicted.

    Attributes:
        label: class id that its pixels have.
        predicted: class id that the network gives them.
        pixels: how many there are.
        box: first column, first row, columns and rows of its rectangle.
        confidence: mean probability of the predicted class, 0 to 1.
        label_probability: mean probability of the label, 0 to 1.
        share: of the connected region in which the same class is predicted, 0 to 1. It is small where the network only
            draws a border elsewhere, and 1 where it sees something that the labels do not have.
        evidence: mean log odds of the predicted class to the label, times the log of the size in units; and
            2 · ln(share).
        counts: its run-length encoding in the whole image, as COCO compresses it.
    """

    label: int
    predicted: int
    pixels: int
    box: tuple[int, int, int, int]
    confidence: float
    label_probability: float
    share: float
    evidence: float
    counts: str

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


@dataclass(frozen=True)
class Opinion:
    """What a network says of the labels of one image: (H, W) arrays.

    Attributes:
        predicted: class ids.
        confidence: float32 probability of the predicted class.
        of_label: float32 probability of the label; anything where that is ignored.
    """

    predicted: Labels
    confidence: NDArray[np.float32]
    of_label: NDArray[np.float32]


def opinion_of(labels: Labels, bands: Iterable[tuple[int, Any]], ignore_index: int) -> Opinion:
    """Compare labels with probabilities, of which one band of rows is in memory at once.

    Args:
        labels: (H, W) class ids and the ignore index.
        bands: first row and probabilities (K, rows, W) of bands that make up the image.
        ignore_index: of pixels without a label.
    """
    found = Opinion(
        np.zeros(labels.shape, np.int32), np.zeros(labels.shape, np.float32), np.zeros(labels.shape, np.float32)
    )
    for top, band in bands:
        values = np.asarray(band, np.float32)
        rows = slice(top, top + values.shape[1])
        own = np.where(labels[rows] == ignore_index, 0, labels[rows]).astype(np.int64)
        found.predicted[rows] = values.argmax(0)
        found.confidence[rows] = values.max(0)
        found.of_label[rows] = np.take_along_axis(values, own[None], 0)[0]
    return found


def find_regions(labels: Labels, opinion: Opinion, ignore_index: int) -> list[Region]:
    """The regions with evidence, from the strongest on.

    Args:
        labels: (H, W) class ids and the ignore index.
        opinion: of the network on them.
        ignore_index: of pixels without a label.
    """
    unit = max(UNIT * labels.size, 1e-9)
    least = max(LEAST_PIXELS, LEAST_UNITS * unit)
    odds = np.log((opinion.confidence + FLOOR) / (opinion.of_label + FLOOR))
    seen = _Seen(opinion.predicted)
    regions = []
    for label, predicted, left, top, mask in _disagreements(labels, opinion.predicted, ignore_index, least):
        height, width = mask.shape
        part = (slice(top, top + height), slice(left, left + width))
        pixels = int(np.count_nonzero(mask))
        share = pixels / seen.pixels(predicted, left + int(np.argmax(mask[0])), top)
        evidence = float(odds[part][mask].mean(dtype=np.float64)) * math.log(pixels / unit)
        evidence += SHARE_WEIGHT * math.log(share)
        if evidence < LEAST_EVIDENCE:
            continue
        regions.append(
            Region(
                label,
                predicted,
                pixels,
                (left, top, width, height),
                round(float(opinion.confidence[part][mask].mean(dtype=np.float64)), 4),
                round(float(opinion.of_label[part][mask].mean(dtype=np.float64)), 4),
                round(share, 4),
                round(evidence, 3),
                encode(mask, left, top, labels.shape),
            )
        )
    return sorted(regions, key=lambda region: (-region.evidence, region.box, region.label, region.predicted))


def decode(counts: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a region, (H, W), of its run-length encoding.

    Raises:
        ValueError: if it is no encoding of an image of this size.
    """
    segment = Segment("", 0, {"size": list(size), "counts": counts})
    try:
        region = region_of(segment, (size[0], size[1]), "")
    except UnreadableError:
        raise ValueError(f"the run-length encoding does not fit an image of {size[1]}×{size[0]}") from None
    columns = np.zeros((size[1], size[0]), bool)
    region.paint(columns.reshape(-1), 1)
    return np.ascontiguousarray(columns.T)


class _Seen:
    """The connected regions (by edges) of predicted classes, found for each class when it is asked for.

    Args:
        predicted: (H, W) class ids.
    """

    def __init__(self, predicted: Labels) -> None:
        self.predicted = predicted
        self._found: dict[int, tuple[Labels, Labels]] = {}

    def pixels(self, predicted: int, column: int, row: int) -> int:
        """How many pixels the region of a predicted class has that holds this one."""
        if predicted not in self._found:
            plane = (self.predicted == predicted).astype(np.uint8)
            _, parts, boxes, _ = cv2.connectedComponentsWithStats(plane, connectivity=4)
            self._found[predicted] = parts, boxes[:, cv2.CC_STAT_AREA]
        parts, areas = self._found[predicted]
        return int(areas[parts[row, column]])


def _disagreements(
    labels: Labels, predicted: Labels, ignore_index: int, least: float
) -> Iterator[tuple[int, int, int, int, NDArray[np.bool_]]]:
    """Label, prediction, first column, first row and mask of each connected region (by edges) that is large enough."""
    rows, columns = np.nonzero((labels != ignore_index) & (labels != predicted))
    pairs = labels[rows, columns].astype(np.int64) << 32 | predicted[rows, columns].astype(np.int64)
    order = np.argsort(pairs, kind="stable")
    found, starts, counts = np.unique(pairs[order], return_index=True, return_counts=True)
    for pair, start, count in zip(found, starts, counts, strict=True):
        if count < least:
            continue
        chosen = order[start : start + count]
        top, left = int(rows[chosen].min()), int(columns[chosen].min())
        shape = (int(rows[chosen].max()) - top + 1, int(columns[chosen].max()) - left + 1)
        plane = np.zeros(shape, np.uint8)
        plane[rows[chosen] - top, columns[chosen] - left] = 1
        _, parts, boxes, _ = cv2.connectedComponentsWithStats(plane, connectivity=4)
        for number, (x, y, width, height, area) in enumerate(boxes.tolist()[1:], 1):
            if area >= least:
                mask = parts[y : y + height, x : x + width] == number
                yield int(pair) >> 32, int(pair) & 0xFFFFFFFF, left + x, top + y, mask


def encode(mask: NDArray[np.bool_], left: int, top: int, size: tuple[int, ...]) -> str:
    whole = np.zeros(size, np.uint8, order="F")
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return str(coco_mask.encode(whole)["counts"].decode())
