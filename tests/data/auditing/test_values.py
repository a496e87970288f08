"""Figures of values equal NumPy's over all values at once."""

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_seg.data.auditing import values
from lightning_seg.data.auditing.values import FLOAT_ERROR, PERCENTS, PixelTotals, count_values

TYPES = ("uint8", "uint16", "int16", "float32")


def images(kind: str, offset: float = 0.0) -> list[NDArray[np.generic]]:
    """Of different sizes, two bands: one of wide values, one of few; a large offset spoils naive sums."""
    rng = np.random.default_rng(5)
    scale = {"uint8": 40, "uint16": 9000, "int16": 5000, "float32": 0.3}[kind]
    middle = {"uint8": 120, "uint16": 30000, "int16": -2000, "float32": 0.1}[kind]
    made = []
    for size in ((13, 7), (40, 31), (300, 260), (1, 1)):
        wide = rng.normal(middle + offset, scale, size)
        few = rng.choice([3, 5, 90], size)
        stack = np.stack([wide, few], axis=2)
        bounds = np.iinfo(kind) if kind != "float32" else None
        made.append((stack if bounds is None else stack.clip(bounds.min, bounds.max)).astype(kind))
    return made


def added(parts: Sequence[values.PixelValues]) -> PixelTotals:
    totals = PixelTotals(parts[0].type, len(parts[0].bands))
    for part in parts:
        totals.add(part)
    return totals


@pytest.mark.parametrize("block", [50, values._BLOCK])
@pytest.mark.parametrize("kind", TYPES)
def test_figures_equal_those_of_numpy(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_BLOCK", block)
    made = images(kind)
    absent = [np.random.default_rng(index).random(image.shape[:2]) < 0.2 for index, image in enumerate(made)]
    absent[-1][:] = True  # of one image nothing is left
    if kind == "float32":
        made[1][:5, :, 0] = [np.nan, np.inf, -np.inf] * 10 + [np.nan]
    totals = added([count_values(*pair) for pair in zip(made, absent, strict=True)])
    assert totals.images == len(made)
    for band, figures in enumerate(totals.bands):
        kept = np.concatenate([image[~mask][:, band] for image, mask in zip(made, absent, strict=True)]).astype(float)
        kept = kept[np.isfinite(kept)]
        assert figures.count == len(kept)
        assert figures.mean == pytest.approx(kept.mean(), rel=1e-12)
        assert figures.std == pytest.approx(kept.std(), rel=1e-12)
        assert (figures.low, figures.high) == (kept.min(), kept.max())
        tolerance = FLOAT_ERROR if kind == "float32" else 1e-12
        found = figures.percentiles((0, 2, 37.3, 50, 98, 100))
        assert found == pytest.approx(np.percentile(kept, (0, 2, 37.3, 50, 98, 100)), rel=tolerance)
        assert (found[0], found[-1]) == (kept.min(), kept.max())


def test_a_large_mean_spoils_no_digit() -> None:
    made = images("float32", offset=1e5)
    kept = np.concatenate([image[..., 0].ravel() for image in made]).astype(float)
    band = added([count_values(image) for image in made]).bands[0]
    assert band.std == pytest.approx(kept.std(), rel=1e-9)
    assert band.mean == pytest.approx(kept.mean(), rel=1e-12)


@pytest.mark.parametrize("kind", TYPES)
def test_the_order_changes_no_bit(kind: str) -> None:
    parts = [count_values(image) for image in images(kind)]
    orders = (parts, parts[::-1], [pickle.loads(pickle.dumps(part)) for part in parts[2:] + parts[:2]])
    figures = [[(band.mean, band.std, *band.percentiles()) for band in added(order).bands] for order in orders]
    assert figures[0] == figures[1] == figures[2]


def test_floats_of_all_sizes_are_in_order() -> None:
    exponents = np.arange(-37, 38)
    ends = np.concatenate([-(10.0 ** exponents[::-1]), [0.0], 10.0**exponents]).astype(np.float32)
    band = added([count_values(ends.reshape(1, -1, 1))]).bands[0]
    percents = np.arange(len(ends)) / (len(ends) - 1) * 100
    assert band.percentiles(percents.tolist()) == pytest.approx(ends.tolist(), rel=1e-3, abs=1e-38)


def test_nothing_has_no_figures() -> None:
    nothing = count_values(np.full((4, 5, 2), np.nan, np.float32))
    assert nothing.are_absent
    assert not any(band.is_constant for band in nothing.bands)
    totals = added([nothing])
    assert (totals.mean, totals.std) == ([0.0, 0.0], [0.0, 0.0])
    assert totals.bands[0].percentiles() == [0.0] * len(PERCENTS)


def test_a_constant_band_is_told() -> None:
    pixels = np.zeros((4, 5, 2), np.int16)
    pixels[0, 0, 1] = -7
    assert [band.is_constant for band in count_values(pixels).bands] == [True, False]
    assert [band.is_constant for band in count_values(pixels[:1, :1]).bands] == [False, False]


def test_hundreds_of_bands_are_counted() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6, 300), np.uint8)
    assert added([count_values(pixels)]).mean == pytest.approx(pixels.mean(axis=(0, 1)).tolist(), rel=1e-12)
