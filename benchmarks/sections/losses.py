"""Losses that never hold upsampled logits, against F.interpolate and F.cross_entropy, and against themselves."""

from collections.abc import Iterator
from functools import partial

from loss import batch, pairs
from loss import run as value_and_gradient

from sections.table import Row, Settings, peak_gib, seconds


def run(settings: Settings) -> Iterator[Row]:
    """Few and many classes, values and gradients compared first."""
    sizes = [(1, 64, 64)] if settings.tiny else [(8, 512, 1024), (2, 512, 1024)]
    for size, classes in zip(sizes, (19, 150), strict=False):
        logits, targets = batch(size, classes, settings.device)
        for name, sides in pairs().items():
            works = [partial(value_and_gradient, side, logits, targets) for side in sides]
            (own, gradient), (other, slopes) = (work() for work in works)
            error = abs(own / other - 1)
            times = [1000 * seconds(work, settings.device, 3) for work in works]
            memory = [peak_gib(work, settings.device) for work in works]
            note = f"values differ by {error:.0e}, gradients by {float((gradient - slopes).norm() / slopes.norm()):.0e}"
            if memory[0] is not None and memory[1] is not None:
                note += f"; peak memory {memory[0]:.2f} against {memory[1]:.2f} GiB"
            yield Row(
                f"{name}, {classes} classes, {'×'.join(map(str, size))}", times[0], times[1], times[1] / times[0],
                unit="ms", failed=error > 1e-4, note=note,
            )  # fmt: skip
