"""Says what the images of a split hold, so that transforms are tried on the like."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from lightning_seg.data.reading import ReadingRules, open_image
from lightning_seg.data.reading.bands import BandsFile
from lightning_seg.data.transforms.pixels import Pixels
from lightning_seg.errors import UnfitImageError, UnreadableError
from lightning_seg.structures import Sample

_IMAGES = 4
_SIDE = 256
"""So many images, spread over the split, show their values, in a square in their middle of this side in pixels."""
_ENDS = (2, 98)
"""Percentiles between which images' values are taken to lie."""


def pixels_of(samples: Sequence[Sample], rules: ReadingRules) -> Pixels:
    """What images hold: bands and type by the rules, and the range of their values as some images show it.

    The same samples give the same range in every process. Bytes are taken to use all of theirs.
    """
    dtype = rules.dtype or "uint8"
    if dtype == "uint8":
        return Pixels(rules.channels)
    seen = []
    for index in sorted({len(samples) * place // _IMAGES for place in range(_IMAGES)} if samples else ()):
        with suppress(UnreadableError, UnfitImageError):  # is told where it is read
            file = open_image(samples[index].image, rules)
            assert isinstance(file, BandsFile)
            rows, columns = (
                slice(max(0, side // 2 - _SIDE // 2), min(side, side // 2 + _SIDE // 2)) for side in file.header.upright
            )
            read = file.read((rows, columns) if file.has_parts else None)
            values = read.pixels if read.absent is None else read.pixels[~read.absent]
            seen.append(values[np.isfinite(values)].ravel())
    if not any(map(len, seen)):
        return Pixels(rules.channels, dtype)
    low, high = (float(end) for end in np.percentile(np.concatenate(seen), _ENDS))
    return Pixels(rules.channels, dtype, low, high if high > low else low + max(1.0, abs(low)))
