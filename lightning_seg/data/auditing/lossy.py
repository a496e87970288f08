"""Tells whether labels without a meaning come from smoothing or lossy compression of a mask."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour
from lightning_seg.data.labels.table import pack
from lightning_seg.data.reading import StoredMask

LONGEST_SIDE = 1024
"""Longest side of the part by which a large mask is judged, so that the time does not grow with the mask."""

RADIUS = 8
"""How near to a smoothed pixel both labels that it blends must be."""

MIN_DISTINCT = 3
"""A mask with fewer foreign labels than this is not smoothed: somebody forgot to name them."""

MANY_DISTINCT = 32
"""A mask with at least this many foreign labels is noisy if most of them cover no patch of 3×3 pixels."""


def is_lossy(stored: StoredMask, foreign: Mapping[int | Colour, int]) -> bool:
    """Tell blends of neighbouring labels, and compression noise, from labels that merely have no name.

    Args:
        stored: the mask.
        foreign: pixels of each stored value or colour without a meaning.

    Returns:
        True if there are many foreign labels that form no patches, or if nearly all foreign pixels lie between the
        labels of pixels near them, in each channel, and hardly any in a patch of one label.
    """
    if len(foreign) < MIN_DISTINCT:
        return False
    labels, unknown = labels_of(stored, foreign), foreign_pixels(stored, foreign)
    window = _amid(unknown)
    labels, unknown = labels[window], unknown[window]
    patch = np.ones((3, 3), np.uint8)
    flat = np.asarray((_each(cv2.erode, labels, patch) == _each(cv2.dilate, labels, patch)).all(axis=2))
    if len(foreign) >= MANY_DISTINCT:
        found = labels[unknown]
        keys = pack(found) if found.shape[1] == 3 else found[:, 0].astype(np.int32)
        _, label, pixels = np.unique(keys, return_inverse=True, return_counts=True)
        in_patches = np.bincount(label.ravel(), flat[unknown]) / pixels
        if (in_patches < 0.2).mean() > 0.75:
            return True
    near = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8)
    hidden = unknown[..., None]
    low = _each(cv2.erode, np.where(hidden, np.inf, labels), near)
    high = _each(cv2.dilate, np.where(hidden, -np.inf, labels), near)
    between = np.asarray(((low <= labels) & (labels <= high)).all(axis=2) & (low < high).any(axis=2))
    return bool(between[unknown].mean() >= 0.8 and flat[unknown].mean() <= 0.1)


def _amid(pixels: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of a large mask around its pixels: first by their median row, then by their median column there."""

    def around(counts: NDArray[np.int64]) -> slice:
        middle = int(np.searchsorted(counts.cumsum(), counts.sum() / 2))
        start = min(max(0, middle - LONGEST_SIDE // 2), max(0, len(counts) - LONGEST_SIDE))
        return slice(start, start + LONGEST_SIDE)

    rows = around(np.count_nonzero(pixels, axis=1))
    return rows, around(np.count_nonzero(pixels[rows], axis=0))


def foreign_pixels(stored: StoredMask, foreign: Mapping[int | Colour, int]) -> NDArray[np.bool_]:
    """Where the foreign values or colours are, (H, W)."""
    labels, wanted = labels_of(stored, foreign), np.array(list(foreign))
    return np.isin(pack(labels), pack(wanted)) if wanted.ndim == 2 else np.isin(labels[..., 0], wanted)


def labels_of(stored: StoredMask, foreign: Mapping[int | Colour, int]) -> NDArray[np.float32]:
    """The labels of all pixels, of the kind that the foreign ones have: colours (H, W, 3) or values (H, W, 1)."""
    if not isinstance(next(iter(foreign)), tuple):
        assert stored.values is not None
        return stored.values[..., None].astype(np.float32)
    if stored.colours is not None:
        return stored.colours.astype(np.float32)
    assert stored.values is not None
    assert stored.palette is not None
    return stored.palette[np.minimum(stored.values, len(stored.palette) - 1)].astype(np.float32)


def _each(operator: object, labels: NDArray[np.float32], window: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Apply a filter of OpenCV, and restore the axis of a single channel, which OpenCV drops."""
    return np.asarray(operator(labels.astype(np.float32), window)).reshape(labels.shape)  # type: ignore[operator]
