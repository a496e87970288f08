"""Adds up the figures of a split, sample by sample, and computes class weights from them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_seg.structures import Colour

MOST_LABELS = 4096
"""How many stored values or colours of a split are kept; noise has more."""

WEIGHT_FORMULA = (
    "median frequency balancing (Eigen & Fergus, ICCV 2015): weight(c) = median(freq) / freq(c), where freq(c) is the "
    "number of pixels of c over the counted pixels of the images that have c; 1 for a class that train does not have"
)


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and sum of squared deviations of pixels, 0 to 255, per channel.

    Attributes:
        count: pixels.
        mean: (C,) float64.
        deviations: (C,) float64.
    """

    count: int
    mean: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def __add__(self, other: "Moments") -> "Moments":
        """Pool two (Chan, Golub & LeVeque 1979), without a large sum of squares that would lose digits."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.deviations + other.deviations + step**2 * (self.count * other.count / count),
        )

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation over all pixels."""
        return np.asarray(np.sqrt(self.deviations / max(1, self.count)))


def no_pixels(channels: int = 3) -> Moments:
    return Moments(0, np.zeros(channels), np.zeros(channels))


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
        moments: mean and deviations of the images' pixels.
    """

    num_classes: int
    images: int = 0
    masks: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    ignored_pixels: int = 0
    unknown_pixels: int = 0
    labels: defaultdict[int, Counter[int | Colour]] = field(default_factory=lambda: defaultdict(Counter))
    moments: Moments = field(default_factory=no_pixels)

    def __post_init__(self) -> None:
        self.class_pixels = np.zeros(self.num_classes, np.int64)
        self.class_images = np.zeros(self.num_classes, np.int64)
        self.pixels_beside = np.zeros(self.num_classes, np.int64)

    def add_image(self, size: tuple[int, int], moments: Moments) -> None:
        self.sizes[size] += 1
        self.moments += moments

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
            "mean": self.moments.mean.tolist(),
            "std": self.moments.std.tolist(),
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
