"""Makes pictures for people of bands: RGB bytes, stretched so that dark or wide values are seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.rules import ReadingRules

LIMITS = (2, 98)
"""Percentiles that become black and white."""

_ENOUGH = 2**20
"""From about this many pixels of a large image, the percentiles are taken."""


def as_shown(pixels: NDArray[Any], rules: ReadingRules) -> NDArray[np.uint8]:
    """What a picture shows of an image.

    Args:
        pixels: (H, W, C) as :func:`~lightning_seg.data.reading.read_image` gives it.
        rules: by which it was read.

    Returns:
        (H, W, 3): the pixels themselves without ``data.bands``; else ``data.display_bands``, without which the first
        three, or the first as grey where there are fewer. Each is stretched between the 2nd and the 98th percentile of
        its finite values; NaN is black.
    """
    if rules.bands is None:
        return np.asarray(pixels, np.uint8)
    usual = rules.bands[: 3 if len(rules.bands) > 2 else 1]
    places = [rules.bands.index(band) for band in rules.display_bands or usual]
    planes = [_stretched(pixels[..., place]) for place in places]
    return np.stack(planes * 3 if len(planes) == 1 else planes, axis=2)


def _stretched(plane: NDArray[Any]) -> NDArray[np.uint8]:
    step = max(1, round((plane.size / _ENOUGH) ** 0.5))
    some = plane[::step, ::step]
    seen = some[np.isfinite(some)]
    if not seen.size:
        return np.zeros(plane.shape, np.uint8)
    low, high = np.percentile(seen, LIMITS)
    scaled = (plane.astype(np.float32) - np.float32(low)) * np.float32(255 / max(float(high - low), 1e-30))
    return np.asarray(np.nan_to_num(scaled.clip(0, 255)).astype(np.uint8))
