"""Makes RGB pictures of images of any bands, for people to look at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.rules import ReadingRules

_ENDS = (2, 98)
"""Percentiles of a band that become black and white."""

_ENOUGH = 2**20
"""Of more pixels, about so many are looked at for the percentiles, at even distances."""


def as_shown(pixels: NDArray[Any], rules: ReadingRules) -> NDArray[np.uint8]:
    """The (H, W, 3) RGB uint8 picture of an image.

    Args:
        pixels: (H, W, C), as read by the rules.
        rules: without ``bands``, RGB of 8 bits is shown as it is. Else ``display_bands`` are shown, each stretched from
            its 2nd to its 98th percentile over finite pixels. Without them it is the first three bands, or the first as
            grey where there are fewer.
    """
    channels = pixels.shape[2]
    if rules.bands is None and channels == 3 and pixels.dtype == np.uint8:
        return pixels
    if rules.bands is not None and rules.display_bands is not None:
        shown = [rules.bands.index(band) for band in rules.display_bands]
    else:
        shown = [0, 1, 2] if channels >= 3 else [0]
    planes = [_stretched(pixels[..., place]) for place in shown]
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=2)


def _stretched(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) values as bytes; what is not finite is black, and so are bands of one value."""
    step = max(1, round((plane.size / _ENOUGH) ** 0.5))
    seen = plane[::step, ::step].ravel()
    if plane.dtype.kind == "f":
        seen = seen[np.isfinite(seen)]
    low, high = np.percentile(seen, _ENDS) if seen.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(plane.shape, np.uint8)
    scaled = (plane.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.rint(np.nan_to_num(scaled, posinf=0.0).clip(0, 255)), np.uint8)
