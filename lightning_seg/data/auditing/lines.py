"""Writes what was counted as lines of a config."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_seg.data.auditing.values import PERCENTS, PixelTotals

_DIGITS = 8
_LOW, _HIGH = 2, 98
"""Percentiles that become 0 and 255."""


@dataclass(frozen=True, slots=True)
class PixelKeys:
    """What the config of a network calls mean and standard deviation, and in which order it has them.

    Attributes:
        mean: the key of the mean.
        std: the key of the standard deviation.
        bgr: whether three channels are turned around, so that their figures are those of the last one first.
    """

    mean: str = "MODEL.PIXEL_MEAN"
    std: str = "MODEL.PIXEL_STD"
    bgr: bool = True


def normalisation_lines(totals: PixelTotals, keys: PixelKeys) -> str:
    """Mean and standard deviation, as overrides of the network's config; 1 for that of a constant band.

    >>> totals = PixelTotals("uint8", 2)
    >>> print(normalisation_lines(totals, PixelKeys()))
    model:
      overrides:
        MODEL.PIXEL_MEAN: [0.0, 0.0]
        MODEL.PIXEL_STD: [1.0, 1.0]
    """
    mean, std = totals.mean, [value or 1.0 for value in totals.std]
    turned = keys.bgr and len(mean) == 3
    if turned:
        mean, std = mean[::-1], std[::-1]
    comment = "  # blue, green, red: INPUT.FORMAT is BGR" if turned else ""
    return f"model:\n  overrides:\n    {keys.mean}: {numbers(mean)}{comment}\n    {keys.std}: {numbers(std)}{comment}"


def range_lines(totals: PixelTotals) -> str:
    """The 2nd and 98th percentile of each band, as ``data.value_range``; the extremes where these are one value."""
    pairs = []
    for band in totals.bands:
        low, high = band.percentiles((_LOW, _HIGH))
        if low >= high:
            low, high = band.percentiles((0, 100))
        pairs.append(numbers([low, high if high > low else low + 1]))
    together = pairs[0] if len(pairs) == 1 else f"[{', '.join(pairs)}]"
    return f"data:\n  value_range: {together}"


def advice_on_pixels(totals: PixelTotals, keys: PixelKeys, *, banded: bool) -> list[str]:
    """Say which lines to write for images that a run takes, each text with its lines.

    Args:
        totals: values of the training images.
        keys: of the network.
        banded: whether ``data.bands`` is set.
    """
    lines = normalisation_lines(totals, keys)
    if not banded:
        what = "For a network without published weights (those keep the mean and std that they were trained with)"
        return [f"{what}, to normalise by the pixels of the training images, write:\n{lines}"]
    advice = [f"To normalise by the pixels of the training images, write:\n{lines}"]
    if totals.type != "uint8":
        advice.append(
            f"Or, to give the network bytes in which percentiles {_LOW} and {_HIGH} are 0 and 255, write (and audit "
            f"again for their mean):\n{range_lines(totals)}"
        )
    return advice


def advice_on_refused(totals: PixelTotals, keys: PixelKeys) -> tuple[str, ...]:
    """Say which settings let images be read that no run takes as they are: all their bands, or a range of values."""
    count = len(totals.bands)
    bands = f"data:\n  bands: {list(range(1, count + 1))}\n"
    what = "the band" if count == 1 else f"{count} bands"
    advice = [f"To read {what} as stored, write:\n{bands}{normalisation_lines(totals, keys)}"]
    if totals.type != "uint8":
        what = "RGB of bytes" if count == 1 else "bytes"
        lines = range_lines(totals) if count == 1 else bands + range_lines(totals).removeprefix("data:\n")
        advice.append(f"To read {what}, in which percentiles {_LOW} and {_HIGH} are 0 and 255, write:\n{lines}")
    return tuple(advice)


def numbers(values: Iterable[float]) -> str:
    """A list as YAML reads it: every number has a point, without which YAML takes 1e-05 for a word.

    >>> numbers([1000.0, 0.25, 0.00001])
    '[1000.0, 0.25, 1.0e-05]'
    """
    return f"[{', '.join(map(_number, values))}]"


def _number(value: float) -> str:
    digits, exponent, power = f"{value:.{_DIGITS}g}".partition("e")
    return f"{digits if '.' in digits else f'{digits}.0'}{exponent}{power}"


VALUE_TITLES = ("mean", "std", "least", "2 %", "median", "98 %", "greatest")


def table_of_bands(totals: PixelTotals, names: Sequence[str]) -> list[list[str]]:
    """One row a band for people to read: its name, and what :data:`VALUE_TITLES` says."""
    return [
        [name, *(f"{value:.6g}" for value in (band.mean, band.std, *band.percentiles(PERCENTS)))]
        for name, band in zip(names, totals.bands, strict=True)
    ]
