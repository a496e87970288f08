"""The one rule for pixels where an image holds nothing, and what it shows there."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray


def absent_pixels(planes: Sequence[NDArray[Any]], nodata: Sequence[float | None] = ()) -> NDArray[np.bool_] | None:
    """Where a pixel holds nothing: where all its bands have the file's nodata value, or one is no finite float32.

    Args:
        planes: (H, W) of each band that is asked for, as stored.
        nodata: the value of each band that stands for nothing; None: there is none.

    Returns:
        (H, W); None: nowhere.
    """
    found = None
    if nodata and all(_fits(value, plane.dtype) for value, plane in zip(nodata, planes, strict=True)):
        equal = (plane == plane.dtype.type(value) for plane, value in zip(planes, nodata, strict=True))
        found = reduce(np.logical_and, equal)
    for plane in planes:
        if plane.dtype.kind == "f" and not (finite := np.isfinite(_as_read(plane))).all():
            found = either(found, ~finite)
    return found if found is not None and found.any() else None


def either(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Pixels of one or of the other; None has none."""
    return other if one is None else one if other is None else one | other


def fill_absent(pixels: NDArray[Any], absent: NDArray[np.bool_] | None, fill: Sequence[float] | None) -> None:
    """Give absent pixels a value a band, in place; rounded and clipped to what the type holds.

    Args:
        pixels: (H, W, C).
        absent: (H, W).
        fill: C values; None: pixels stay as they are.
    """
    if absent is None or fill is None:
        return
    values = np.asarray(fill, np.float64)
    if pixels.dtype.kind != "f":
        bounds = np.iinfo(pixels.dtype)
        values = np.rint(values).clip(bounds.min, bounds.max)
    pixels[absent] = values.astype(pixels.dtype)


def _as_read(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Floats as networks get them: what is beyond float32 is infinite there."""
    with np.errstate(over="ignore"):
        return plane.astype(np.float32) if plane.dtype.itemsize > 4 else plane


def _fits(value: float | None, dtype: np.dtype[Any]) -> bool:
    """Whether a type holds a value; NaN is found without being named."""
    if value is None or not np.isfinite(value):
        return False
    return dtype.kind == "f" or (value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
