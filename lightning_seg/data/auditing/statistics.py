"""Adds up the figures of a split, sample by sample, and computes class weights from them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour
from lightning_seg.data.auditing.values import PERCENTS, PixelTotals, PixelValues

MOST_LABELS = 4096
"""How many stored values or colours of a split are kept; noise has more."""

WEIGHT_FORMULA = (
    "median frequency balancing (Eigen & Fergus, ICCV 2015): weight(c) = median(freq) / freq(c), where freq(c) is the "
    "number of pixels of c over the counted pixels of the images that have c; 1 for a class that train does not have"
)


Layout = tuple[str, int]
"""NumPy's name of a type, and a number of bands."""


@dataclass
class SplitStatistics:
    """What one split holds.

    Attributes:
        num_classes: K.
        images: samples that were listed.
        masks: number of samples whose pixels are counted here.
        sizes: how many images have each (height, width), upright.
        class_pixels: (K,) int64.
        class_images: (K,) int64, images that have the class.
        pixels_beside: (K,) int64, counted pixels of the images that have the class.
        ignored_pixels: number of pixels that do not count.
        unknown_pixels: number of pixels whose value or colour has no meaning.
        labels: number of pixels of each stored value or colour of mask files, by source; at most the commonest.
        pixels: values of the images, by type and number of bands; one entry where all images are alike.
        refused: the same of images that are refused, by what the files hold.
    """

    num_classes: int
    images: int = 0
    masks: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    ignored_pixels: int = 0
    unknown_pixels: int = 0
    labels: defaultdict[int, Counter[int | Colour]] = field(default_factory=lambda: defaultdict(Counter))
    pixels: dict[Layout, PixelTotals] = field(default_factory=dict)
    refused: dict[Layout, PixelTotals] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.class_pixels = np.zeros(self.num_classes, np.int64)
        self.class_images = np.zeros(self.num_classes, np.int64)
        self.pixels_beside = np.zeros(self.num_classes, np.int64)

    def add_image(self, size: tuple[int, int], values: PixelValues) -> None:
        self.sizes[size] += 1
        _add(self.pixels, values)

    def add_refused(self, values: PixelValues) -> None:
        """Add an image that no run takes, to say what would mend that."""
        _add(self.refused, values)

    @property
    def usual_pixels(self) -> PixelTotals | None:
        """Values of the images of the commonest type and number of bands; None where no image was read."""
        return _commonest(self.pixels)

    @property
    def usual_refused(self) -> PixelTotals | None:
        """The same of images that no run takes, where they are at least as many as those that one takes."""
        refused = _commonest(self.refused)
        taken = sum(totals.images for totals in self.pixels.values())
        return refused if refused is not None and refused.images >= taken else None

    def add_mask(
        self,
        class_pixels: NDArray[np.int64],
        ignored: int,
        unknown: int,
        labels: Mapping[int | Colour, int],
        source: int = 0,
    ) -> None:
        self.masks += 1
        seen = self.labels[source]
        seen.update(labels)
        if len(seen) > 2 * MOST_LABELS:
            self.labels[source] = Counter(dict(seen.most_common(MOST_LABELS)))
        self.class_pixels += class_pixels
        self.class_images += class_pixels > 0
        self.pixels_beside += np.where(class_pixels > 0, class_pixels.sum(), 0)
        self.ignored_pixels += ignored
        self.unknown_pixels += unknown

    def as_json(self, names: Sequence[str]) -> dict[str, object]:
        """As ``audit.json`` holds it; sizes are ``width x height``."""
        return {
            "images": self.images,
            "sizes": {f"{width}x{height}": count for (height, width), count in self.sizes.most_common()},
            "class_pixels": dict(zip(names, self.class_pixels.tolist(), strict=True)),
            "class_images": dict(zip(names, self.class_images.tolist(), strict=True)),
            "ignored_pixels": self.ignored_pixels,
            "unknown_pixels": self.unknown_pixels,
            **_figures(self.usual_pixels),
        }


def _add(totals: dict[Layout, PixelTotals], values: PixelValues) -> None:
    layout = values.type, len(values.bands)
    totals.setdefault(layout, PixelTotals(*layout)).add(values)


def _commonest(totals: Mapping[Layout, PixelTotals]) -> PixelTotals | None:
    return max(totals.values(), key=lambda each: each.images, default=None)


def _figures(totals: PixelTotals | None) -> dict[str, object]:
    if totals is None:
        return {"mean": [], "std": [], "percentiles": {}}
    percentiles = [band.percentiles(PERCENTS) for band in totals.bands]
    return {
        "mean": totals.mean,
        "std": totals.std,
        "type": totals.type,
        "percentiles": {
            str(percent): list(column) for percent, column in zip(PERCENTS, zip(*percentiles, strict=True), strict=True)
        },
    }


def class_weights(class_pixels: NDArray[np.int64], pixels_beside: NDArray[np.int64]) -> list[float]:
    """Weights by :data:`WEIGHT_FORMULA`.

    Args:
        class_pixels: (K,) pixels of each class.
        pixels_beside: (K,) counted pixels of the images that have it.

    >>> class_weights(np.array([60, 20, 0]), np.array([100, 50, 0]))  # frequencies 0.6 and 0.4
    [0.8333, 1.25, 1.0]
    """
    there = class_pixels > 0
    if not there.any():
        return [1.0] * len(class_pixels)
    frequency = class_pixels[there] / pixels_beside[there]
    weights = np.ones(len(class_pixels))
    weights[there] = np.median(frequency) / frequency
    return [float(f"{weight:.4g}") for weight in weights]
