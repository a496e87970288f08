"""Intervals of differences: against loops and tables, and by how often they name a winner."""

from types import ModuleType

import numpy as np
import pytest
import torch

from lightning_seg.metrics import comparison
from lightning_seg.metrics import functional as figures
from lightning_seg.metrics.comparison import Totals, compare, drawn_differences, expanded_tail, figures_of_totals
from tests.conftest import benchmark


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return benchmark("comparison")


def matrices(seed: int, units: int = 8) -> torch.Tensor:
    """Of three classes; the last one only in the first image."""
    made = torch.randint(1, 99, (units, 3, 3), generator=torch.Generator().manual_seed(seed))
    made[1:, 2] = made[1:, :, 2] = 0
    return made


@pytest.mark.parametrize("absent_classes", figures.ABSENT_CLASSES)
def test_figures_are_those_of_summed_matrices(absent_classes: figures.AbsentClasses) -> None:
    matrix = matrices(0)[1:].sum(0)
    found = figures_of_totals(Totals.of_matrices(matrix), absent_classes)
    expected = [figures.mean_iou(matrix, absent_classes), figures.frequency_weighted_iou(matrix)]
    np.testing.assert_allclose(found, [*expected, *figures.iou_per_class(matrix, absent_classes)], rtol=1e-12)
    assert found[4].isnan()


def test_draws_are_sums_of_the_same_units_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = matrices(0), matrices(1)
    sides = [[Totals.of_matrices(side)] for side in (first, second)]
    found = drawn_differences(*sides, "detectron2", draws=50, seed=3)
    assert found.shape == (50, 5)
    random = np.random.default_rng(3)
    absent = 0
    for row in found:
        taken = random.integers(8, size=8)
        both = [side[taken].sum(0) for side in (first, second)]
        expected = figures.mean_iou(both[1]) - figures.mean_iou(both[0])
        np.testing.assert_allclose(row[0], expected, atol=1e-12)
        assert bool(row[4].isnan()) == (0 not in taken)
        absent += 0 not in taken
    assert 0 < absent < 50
    monkeypatch.setattr(comparison, "_WEIGHTS_AT_ONCE", 8 * 7)  # in parts of seven draws
    np.testing.assert_allclose(drawn_differences(*sides, "detectron2", draws=50, seed=3), found, atol=1e-12)


def test_an_interval_holds_the_difference_and_needs_units() -> None:
    first, second = ([Totals.of_matrices(matrices(seed))] for seed in (0, 1))
    found = compare(first, second, "detectron2", draws=500)
    assert found.units.tolist() == [8, 8, 8, 8, 1]
    assert (found.low[:4] < found.difference[:4]).all()
    assert (found.difference[:4] < found.high[:4]).all()
    assert found.low[4].isnan()
    assert found.high[4].isnan()
    assert not found.difference[4].isnan()
    same = compare(first, first, "detectron2", draws=500)
    assert same.low[:4].tolist() == same.high[:4].tolist() == [0] * 4
    turned = compare(second, first, "detectron2", draws=500)
    np.testing.assert_allclose(turned.low[:4], -found.high[:4], atol=1e-12)
    few = [Totals.of_matrices(matrices(0, 5))]
    with pytest.raises(ValueError, match="5 units are too few for an interval: 6 are needed"):
        compare(few, few, "detectron2")


def test_a_side_of_several_trainings_is_their_mean() -> None:
    runs = [Totals.of_matrices(matrices(seed)) for seed in range(3)]
    parts = [compare([runs[0]], [run], "detectron2", draws=20).difference for run in runs[1:]]
    found = compare([runs[0]], runs[1:], "detectron2", draws=20)
    np.testing.assert_allclose(found.difference, torch.stack(parts).mean(0), atol=1e-12)


def test_units_are_sums_of_images() -> None:
    images = matrices(0)
    found = Totals.of_matrices(images).by_unit(torch.tensor([0, 1, 0, 2, 1, 1, 2, 0]))
    expected = Totals.of_matrices(
        torch.stack([images[[0, 2, 7]].sum(0), images[[1, 4, 5]].sum(0), images[[3, 6]].sum(0)])
    )
    assert torch.equal(found.hits, expected.hits)
    assert torch.equal(found.true, expected.true)
    assert torch.equal(found.predicted, expected.predicted)


def test_tails_and_intervals_of_seeds_are_those_of_the_tables() -> None:
    assert expanded_tail(10) == pytest.approx(0.00853, abs=1e-4)  # Φ(-2.2622 · sqrt(10 / 9)) = Φ(-2.3845)
    assert expanded_tail(10**6) == pytest.approx(0.025, abs=1e-6)
    low, high = comparison.mean_interval([0.6, 0.7, 0.8])  # t of 2 degrees of freedom: 4.3027
    assert (low, high) == (pytest.approx(0.7 - 0.24842, abs=1e-5), pytest.approx(0.7 + 0.24842, abs=1e-5))
    assert comparison.mean_difference_interval([0.5, 0.5], [0.75, 0.75]) == (0.25, 0.25)


def test_welch_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = [0.61, 0.64, 0.66, 0.6], [0.7, 0.65, 0.69]
    for end in comparison.mean_difference_interval(first, second):  # a shift by either end is just not significant
        assert stats.ttest_ind(np.array(second) - end, first, equal_var=False).pvalue == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("images", [30, 100])
def test_equals_get_a_winner_in_five_percent(simulation: ModuleType, images: int) -> None:
    """The benchmark does 400 pairs; of 200, as many as 5 % ± 3.1 have at most two standard errors."""
    share = simulation.false_winners(images, pairs=200, draws=500)["expanded"]
    assert 0.015 <= share <= 0.085


def test_power_is_that_of_the_textbook(simulation: ModuleType) -> None:
    _, expected, measured = simulation.power(60, 0.12, pairs=200, draws=500)
    assert 0.3 < expected < 0.95
    assert abs(measured - expected) < 0.1
