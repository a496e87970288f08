"""Tries transforms on images of the sizes that a data set has, which their headers tell."""

import time
from collections.abc import Sequence

import numpy as np

from lightning_seg.data.auditing.pool import without_opencv_threads
from lightning_seg.data.reading import USUAL, ReadingRules, read_header
from lightning_seg.data.transforms import RandomScaleCrop, apply, reseed
from lightning_seg.data.transforms.splits import SplitTransforms
from lightning_seg.errors import DataError, UnfitImageError, UnreadableError
from lightning_seg.structures import Sample, summarise

SECONDS = 1.0
"""Time for the headers of a split (about 10 000 from a local disk), and again for trying its transforms."""

_DRAWS = 4
"""How often random transforms are tried on each size."""


def refuse_misfits(
    samples: Sequence[Sample], transforms: SplitTransforms, rules: ReadingRules = USUAL, *, seconds: float = SECONDS
) -> None:
    """Stop before a run if transforms fail on images of some size; the smallest size is tried first.

    Args:
        samples: of a split; as many as time allows are looked at, in a random order.
        transforms: of the split, at least one; from those of evaluation there must be a way back to the stored pixels.
        rules: what may be read.
        seconds: for headers, and again for trying.

    Raises:
        DataError: naming the transform, and images that it fails on.
    """
    # What follows a RandomScaleCrop gets one size.
    first = transforms.pipeline.transforms[0]
    alike = isinstance(first, RandomScaleCrop) and first.p == 1 and transforms.placements is None
    sizes = _read_sizes(samples[:1] if alike else samples, rules, time.monotonic() + seconds)
    deadline = time.monotonic() + seconds
    refusal, misfits = "", []
    with without_opencv_threads():  # the loader's workers are forked from here
        for size, members in sorted(sizes.items(), key=lambda entry: min(entry[0])):
            if time.monotonic() > deadline:
                break
            try:
                _try(size, members[0], transforms, rules)
            except DataError as error:
                refusal = refusal or str(error)
                misfits += [f"{member.image} ({size[1]}×{size[0]})" for member in members]
    if misfits:
        seen = sum(map(len, sizes.values()))
        raise DataError(f"{refusal}\nTransforms fail on {len(misfits)} of {seen} images: {summarise(misfits)}")


def _try(size: tuple[int, int], sample: Sample, transforms: SplitTransforms, rules: ReadingRules) -> None:
    if transforms.placements is not None:
        transforms.placements.of(size, sample.image)
        return
    image, mask = np.zeros((*size, rules.channels), rules.dtype or "uint8"), np.zeros(size, np.uint8)
    for draw in range(_DRAWS):
        reseed(transforms.pipeline, 0, 0, draw)
        apply(transforms.pipeline, transforms.setting, sample.image, image=image, mask=mask)


def _read_sizes(samples: Sequence[Sample], rules: ReadingRules, deadline: float) -> dict[tuple[int, int], list[Sample]]:
    """Samples by height and width of their images, without those that cannot be read."""
    sizes: dict[tuple[int, int], list[Sample]] = {}
    for index in np.random.default_rng(0).permutation(len(samples)):
        if time.monotonic() > deadline:
            break
        sample = samples[index]
        try:
            sizes.setdefault(read_header(sample.image, "image", rules).upright, []).append(sample)
        except (UnreadableError, UnfitImageError):  # is told where it is read
            continue
    return sizes
