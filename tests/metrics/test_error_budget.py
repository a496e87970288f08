"""Kinds of errors and their costs, against their definitions in plain Python, pixel by pixel."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.metrics import Evaluation
from lightning_seg.metrics import error_kinds as module
from lightning_seg.metrics.error_budget import ErrorBudget, error_budget
from lightning_seg.metrics.error_kinds import COUNTED, KINDS, count_kinds, near_border
from lightning_seg.metrics.functional import ABSENT_CLASSES, AbsentClasses, confusion_matrix
from lightning_seg.metrics.regions import regions_of
from tests.metrics.reports import report_of

IGNORED = 255
NAMES = ["road", "wall", "sky"]
Pixel = tuple[int, int]


def sides(pixel: Pixel, shape: tuple[int, ...]) -> Iterator[Pixel]:
    y, x = pixel
    for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            yield row, column


def region(labels: NDArray[np.int64], start: Pixel) -> set[Pixel]:
    """All pixels that hang together with one: flooded from there."""
    found, todo = {start}, [start]
    while todo:
        for pixel in sides(todo.pop(), labels.shape):
            if pixel not in found and labels[pixel] == labels[start]:
                found.add(pixel)
                todo.append(pixel)
    return found


@dataclass(frozen=True)
class Limits:
    """The limits of the definitions, as shares of the image's pixels and of its diagonal."""

    small: float = 0.003
    boundary: float = 0.005


def kind_of(prediction: NDArray[np.int64], truth: NDArray[np.int64], pixel: Pixel, limits: Limits) -> str:
    """The first kind that holds, as the documentation says it."""
    shown = np.where(truth == IGNORED, IGNORED, prediction)
    beneath, above = region(truth, pixel), region(shown, pixel)
    right = sum(bool(prediction[one] == truth[one]) for one in beneath)
    if len(beneath) < limits.small * truth.size and right / len(beneath) < 0.5:
        return "small_missed"
    touching = [one for one in np.ndindex(truth.shape) if any(truth[one] != truth[o] for o in sides(one, truth.shape))]
    if any(math.dist(pixel, other) <= limits.boundary * math.hypot(*truth.shape) for other in touching):
        return "boundary"
    if (
        all(prediction[one] != truth[one] for one in above)
        and all(truth[other] != IGNORED for one in above for other in sides(one, truth.shape))
        and right / len(beneath) >= 0.5
    ):
        return "invented"
    return "confused"


def kinds_by_hand(prediction: NDArray[np.int64], truth: NDArray[np.int64], limits: Limits) -> dict[str, list[Pixel]]:
    wrong = [pixel for pixel in np.ndindex(truth.shape) if truth[pixel] not in (IGNORED, prediction[pixel])]
    found: dict[str, list[Pixel]] = {kind: [] for kind in KINDS}
    for pixel in wrong:
        found[kind_of(prediction, truth, pixel, limits)].append(pixel)
    return found


def as_labels(values: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(values.astype(np.uint8))


def budget_of(prediction: Tensor, truth: Tensor, rule: AbsentClasses = "detectron2") -> ErrorBudget | None:
    matrix = confusion_matrix(prediction, truth, 3, IGNORED)
    return error_budget(matrix, count_kinds(prediction, truth, 3, IGNORED), NAMES, rule)


def check_against_definitions(prediction: NDArray[np.int64], truth: NDArray[np.int64], limits: Limits) -> None:
    """Every kind and every pair is mended by hand, and what is then evaluated is the cost."""
    by_hand = kinds_by_hand(prediction, truth, limits)
    counts = count_kinds(as_labels(prediction), as_labels(truth), 3, IGNORED)
    for kind, counted in zip(COUNTED, counts, strict=True):
        expected = torch.zeros(3, 3, dtype=torch.int64)
        for pixel in by_hand[kind]:
            expected[truth[pixel], prediction[pixel]] += 1
        assert torch.equal(counted, expected), kind
    pairs: dict[tuple[str, str], list[Pixel]] = {}
    for pixel in by_hand["confused"]:
        pairs.setdefault((NAMES[truth[pixel]], NAMES[prediction[pixel]]), []).append(pixel)
    for rule in ABSENT_CLASSES:
        budget = budget_of(as_labels(prediction), as_labels(truth), rule)  # type: ignore[arg-type]
        now = mean_iou_of(prediction, truth, rule)
        if math.isnan(now):
            assert budget is None
            continue
        assert budget is not None

        def cost(pixels: list[Pixel], rule: str = rule, now: float = now) -> float:
            better = prediction.copy()
            for pixel in pixels:
                better[pixel] = truth[pixel]
            return mean_iou_of(better, truth, rule) - now

        assert budget.parts == pytest.approx({kind: cost(pixels) for kind, pixels in by_hand.items()}, abs=1e-14)
        assert budget.pixels == {kind: len(pixels) for kind, pixels in by_hand.items()}
        assert {(pair.true, pair.predicted): pair.cost for pair in budget.pairs} == pytest.approx(
            {pair: cost(pixels) for pair, pixels in pairs.items()}, abs=1e-14
        )
        assert {(pair.true, pair.predicted): pair.pixels for pair in budget.pairs} == {
            pair: len(pixels) for pair, pixels in pairs.items()
        }
        assert sum(budget.parts.values()) + budget.interaction == pytest.approx(1 - now, abs=1e-15)


def mean_iou_of(prediction: NDArray[np.int64], truth: NDArray[np.int64], rule: str) -> float:
    counts = truth != IGNORED
    found = []
    for index in range(3):
        true, predicted = counts & (truth == index), counts & (prediction == index)
        if true.any() or (rule != "detectron2" and predicted.any()):
            found.append((true & predicted).sum() / (true | predicted).sum())
    return float(np.mean(found)) if found else math.nan


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_kinds_and_costs_are_those_of_their_definitions(data: st.DataObject) -> None:
    """Small maps, each pixel of which is some pixels wide, so that regions are larger than small, and with noise."""
    coarse = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=5))
    truth = data.draw(arrays.arrays(np.int64, coarse, elements=st.sampled_from([0, 1, 2, IGNORED])))
    prediction = data.draw(arrays.arrays(np.int64, coarse, elements=st.integers(0, 2)))
    width = data.draw(st.integers(1, 5))
    truth, prediction = (np.kron(labels, np.ones((width, width), np.int64)) for labels in (truth, prediction))
    prediction = np.where(data.draw(st.booleans()), prediction, np.where(truth == IGNORED, prediction, truth))
    for y, x, true, predicted in data.draw(
        st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24), st.integers(0, 2), st.integers(0, 2)), max_size=4)
    ):
        place = y % truth.shape[0], x % truth.shape[1]
        truth[place], prediction[place] = true, predicted
    check_against_definitions(prediction, truth, Limits())
    # Maps that are small enough for this test have no small region and thin boundaries, unless the limits are wider.
    with (
        mock.patch.object(module, "_SMALL", (data.draw(st.integers(30, 200)), 1000)) as (small, _),
        mock.patch.object(module, "_DIAGONALS", data.draw(st.sampled_from([7, 11, 19]))) as diagonals,
    ):
        check_against_definitions(prediction, truth, Limits(small / 1000, 1 / diagonals))


def scene() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Half road, half wall, and in them one error of each kind: 300 × 400 pixels, so a boundary is 2.5 pixels wide."""
    truth = np.zeros((300, 400), np.int64)
    truth[:, 200:] = 1
    prediction = truth.copy()
    prediction[100:110, 200:203] = 0  # boundary: the distances to the border are 0, 1, 2
    prediction[50:60, 50:70] = 2  # invented
    truth[200:215, 300:320] = 2  # missed: 300 pixels, fewer than 360
    prediction[204:206, 304:310] = 2  # 12 of them are right
    truth[250:300, 0:100] = 2  # a whole region that is large: confused, but for its boundary
    truth[0:3, 0:3] = IGNORED
    return prediction, truth


def test_one_error_of_each_kind() -> None:
    prediction, truth = scene()
    budget = budget_of(as_labels(prediction), as_labels(truth))
    assert budget is not None
    assert budget.pixels == {"small_missed": 288, "boundary": 30 + 5000 - 47 * 97, "invented": 200, "confused": 47 * 97}
    assert [(pair.true, pair.predicted, pair.pixels) for pair in budget.pairs] == [("sky", "road", 47 * 97)]
    assert budget.parts["confused"] == pytest.approx(budget.pairs[0].cost, abs=1e-15)
    assert all(part > 0 for part in budget.parts.values())


def test_ignored_pixels_count_nowhere() -> None:
    prediction, truth = scene()
    truth[:, 190:210] = IGNORED
    truth[70:80] = IGNORED
    first = count_kinds(as_labels(prediction), as_labels(truth), 3, IGNORED)
    prediction[truth == IGNORED] = 2
    assert torch.equal(count_kinds(as_labels(prediction), as_labels(truth), 3, IGNORED), first)
    truth[49:50, 50:70] = IGNORED  # what was invented may go on there
    assert first[COUNTED.index("invented")].sum() == 200
    assert count_kinds(as_labels(prediction), as_labels(truth), 3, IGNORED)[COUNTED.index("invented")].sum() == 0


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 7), (7, 1), (9, 9)])
def test_images_without_an_error_or_a_counted_pixel(shape: tuple[int, int]) -> None:
    right = torch.zeros(shape, dtype=torch.uint8)
    assert not count_kinds(right, right, 3, IGNORED).any()
    assert not count_kinds(right, torch.full(shape, IGNORED, dtype=torch.int32), 3, IGNORED).any()
    assert budget_of(right, torch.full(shape, IGNORED, dtype=torch.int32)) is None
    if right.numel():
        budget = budget_of(right, right)
        assert budget is not None
        assert budget.in_words == ""
        assert {*budget.parts.values(), budget.interaction} == {0.0}


def test_more_classes_than_a_byte_holds() -> None:
    truth = torch.zeros(40, 40, dtype=torch.int32)
    truth[20:] = 299
    prediction = truth.to(torch.int16)
    prediction[30:, :] = 256
    counts = count_kinds(prediction, truth, 300, -1)
    matrix = confusion_matrix(prediction, truth, 300, -1)
    assert counts.sum() == counts[COUNTED.index("invented"), 299, 256] == matrix[299, 256] == 400
    truth8 = torch.full((4, 4), 255, dtype=torch.uint8)  # 255 is the last class of 256, and nothing is ignored
    assert count_kinds(torch.zeros(4, 4, dtype=torch.uint8), truth8, 256, -1).sum() == 0


def test_regions_of_noise_are_flooded_ones() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (23, 31))
    regions = regions_of(labels)
    numbers = regions.at(np.arange(labels.size)).reshape(labels.shape)
    for pixel in np.ndindex(labels.shape):
        flooded = region(labels, pixel)
        assert {tuple(place) for place in np.argwhere(numbers == numbers[pixel])} == flooded
        assert regions.sizes[numbers[pixel]] == len(flooded)
    assert len(regions.sizes) == regions.count == len(np.unique(numbers))


def test_both_ways_to_find_what_is_near_a_border_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((1500, 2000), np.uint8)
    labels[::301, ::199] = 1
    labels[700:900, 300:1000] = 2
    by_disc = near_border(labels)
    monkeypatch.setattr(module, "_LARGEST_DISC", 0)
    assert np.array_equal(near_border(labels), by_disc)
    column = by_disc[800]
    assert column[300 - 1 - 12 : 300 + 12 + 1].all()  # 0.5 % of the diagonal is 12.5
    assert not column[300 - 1 - 13]
    assert not column[300 + 13]


def test_an_evaluation_sums_images_and_begins_anew() -> None:
    prediction, truth = map(as_labels, scene())
    evaluation = Evaluation(NAMES, IGNORED, "detectron2", error_budget=True)
    counts = count_kinds(prediction, truth, 3, IGNORED) + 11 * count_kinds(truth % 3, prediction, 3, IGNORED)
    for _ in range(2):
        evaluation.reset()
        evaluation.update(prediction, truth)
        for _ in range(11):  # more than are on the way at once
            evaluation.update(truth % 3, prediction)
        report = evaluation.report("val")
        assert report.error_kinds is not None
        assert torch.equal(report.error_kinds, counts.flatten(0, 1))
        assert report.error_budget == error_budget(report.matrix, counts, NAMES, "detectron2")
        copy.deepcopy(evaluation)  # as averaged weights need it
    errors = report.as_json()["errors"]
    assert list(errors) == [*KINDS, "interaction", "pixels", "confused_pairs"]
    first = errors["confused_pairs"][0]
    assert (first["true"], first["predicted"], first["pixels"]) == ("sky", "road", 4559)
    json.dumps(errors, allow_nan=False)
    evaluation.update(prediction, truth)
    evaluation.reset()  # an evaluation that was broken off
    evaluation.update(prediction, prediction)
    assert not evaluation.report("val").error_kinds.any()  # type: ignore[union-attr]


def test_without_it_a_report_says_nothing_of_errors() -> None:
    evaluation = Evaluation(NAMES, IGNORED, "detectron2")
    evaluation.update(*map(as_labels, scene()))
    report = evaluation.report("val")
    assert report.error_budget is None
    assert "errors" not in report.as_json()


def test_a_sentence_names_the_costliest_errors() -> None:
    matrix = torch.tensor([[80, 10, 0], [10, 80, 0], [0, 0, 9]])
    kinds = torch.zeros(3, 3, 3, dtype=torch.int64)
    kinds[COUNTED.index("boundary"), 0, 1] = 9
    budget = error_budget(matrix, kinds, NAMES, "detectron2")
    assert budget is not None
    assert budget.in_words == "wall taken for road costs 6.3 points, boundaries 5.6, road taken for wall 0.6"
    kinds[COUNTED.index("boundary")] = torch.tensor([[0, 10, 0], [9, 0, 0], [0, 0, 0]])
    budget = error_budget(matrix, kinds, NAMES, "detectron2")
    assert budget is not None
    assert budget.in_words == "boundaries cost 12.6 points, wall taken for road 0.6"
    many = error_budget(
        torch.ones(4, 4, dtype=torch.int64), torch.zeros(3, 4, 4, dtype=torch.int64), [*"abcd"], "mmseg"
    )
    assert many is not None
    assert many.in_words.startswith("a taken for b costs ")
    assert many.in_words.endswith(", …")
    assert many.in_words.count("taken for") == 6
    assert report_of("val", NAMES, matrix).error_budget is None
    six = error_budget(torch.ones(3, 3, dtype=torch.int64), torch.zeros(3, 3, 3, dtype=torch.int64), NAMES, "mmseg")
    assert six is not None
    assert six.in_words.count("taken for") == 6
    assert "…" not in six.in_words
