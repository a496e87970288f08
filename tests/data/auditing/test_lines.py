"""Lines to paste say the numbers that were counted, as YAML reads them."""

from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from lightning_seg.data.auditing.lines import (
    PixelKeys,
    advice_on_pixels,
    advice_on_refused,
    normalisation_lines,
    range_lines,
)
from lightning_seg.data.auditing.values import PixelTotals, count_values


def totals(*planes: NDArray[Any]) -> PixelTotals:
    pixels = np.stack(planes, axis=2)
    made = PixelTotals(pixels.dtype.name, len(planes))
    made.add(count_values(pixels))
    return made


SMALL = np.random.default_rng(1).uniform(0, 3e-6, (30, 40)).astype(np.float32)
LARGE = (SMALL * 1e18).astype(np.float32)
ZERO = np.zeros((30, 40), np.float32)


def test_numbers_of_any_size_are_numbers_to_yaml() -> None:
    overrides = yaml.safe_load(normalisation_lines(totals(SMALL, LARGE), PixelKeys()))["model"]["overrides"]
    assert overrides["MODEL.PIXEL_MEAN"] == pytest.approx([float(SMALL.mean()), float(LARGE.mean())], rel=1e-6)
    assert all(isinstance(value, float) for values in overrides.values() for value in values)


def test_a_constant_band_is_divided_by_one() -> None:
    assert "PIXEL_STD: [1.0, " in normalisation_lines(totals(ZERO, SMALL), PixelKeys())


@pytest.mark.parametrize("bgr", [True, False])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_only_three_channels_are_turned_around(bands: int, bgr: bool) -> None:
    planes = [SMALL + np.float32(place) for place in range(bands)]
    lines = normalisation_lines(totals(*planes), PixelKeys("model.pixel_mean", "model.pixel_std", bgr))
    mean = yaml.safe_load(lines)["model"]["overrides"]["model.pixel_mean"]
    assert sorted(mean) == (mean[::-1] if bgr and bands == 3 else mean)
    assert ("blue, green, red" in lines) == (bgr and bands == 3)


def test_ranges_are_percentiles_or_else_the_extremes_and_never_empty() -> None:
    rare = ZERO.copy()
    rare[0, 0] = 5
    pairs = yaml.safe_load(range_lines(totals(SMALL, rare, ZERO)))["data"]["value_range"]
    assert pairs[0] == pytest.approx(np.percentile(SMALL, (2, 98)).tolist(), rel=1e-3)
    assert pairs[1:] == [[0.0, 5.0], [0.0, 1.0]]
    assert yaml.safe_load(range_lines(totals(rare)))["data"]["value_range"] == [0.0, 5.0]


def test_bytes_need_no_range() -> None:
    of_bytes = totals(*[ZERO.astype(np.uint8)] * 4)
    assert "value_range" not in "".join(advice_on_pixels(of_bytes, PixelKeys(), banded=True))
    assert "value_range" not in "".join(advice_on_refused(of_bytes, PixelKeys()))
    assert "bands: [1, 2, 3, 4]" in advice_on_refused(of_bytes, PixelKeys())[0]
    deep = totals(SMALL, LARGE)
    assert "value_range: [[" in advice_on_pixels(deep, PixelKeys(), banded=True)[1]
    assert "  bands: [1, 2]\n  value_range: [[" in advice_on_refused(deep, PixelKeys())[1]
