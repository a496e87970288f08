"""Makes pictures of images: RGB as it is, bands stretched so that an eye sees something."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.rules import USUAL, ReadingRules

_ENDS = (2, 98)
"""Percentiles of a band's values that become black and white."""

_SAMPLED = 2**20
"""Pixels at most that percentiles are taken from."""


def as_shown(pixels: NDArray[Any], rules: ReadingRules = USUAL) -> NDArray[np.uint8]:
    """An image to look at, (H, W, 3) RGB uint8.

    Without ``rules.bands``, it is the image itself. Else its ``display_bands``, the first three, or the first as grey,
    are stretched between the 2nd and the 98th percentile of their finite values.

    Args:
        pixels: (H, W, C), as :func:`~lightning_seg.data.reading.read_image` gives it by these rules.
        rules: what was read.
    """
    if rules.bands is None:
        return np.asarray(pixels, np.uint8)
    shown = rules.display_bands or (rules.bands[:3] if len(rules.bands) >= 3 else rules.bands[:1])
    planes = [_stretched(pixels[..., rules.bands.index(band)]) for band in shown]
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=2)


def _stretched(plane: NDArray[Any]) -> NDArray[np.uint8]:
    step = max(1, int((plane.size / _SAMPLED) ** 0.5))
    sample = plane[::step, ::step]
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        return np.zeros(plane.shape, np.uint8)
    low, high = np.percentile(finite, _ENDS)
    scale = 255 / (high - low) if high > low else 0.0
    values = np.clip((plane.astype(np.float32) - np.float32(low)) * np.float32(scale), 0, 255)
    return np.asarray(np.rint(np.nan_to_num(values)), np.uint8)
