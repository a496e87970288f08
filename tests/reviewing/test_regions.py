"""Regions against hand-made probabilities, and their rank against the same confusion elsewhere."""

import math

import numpy as np
import pytest

from lightning_seg.reviewing.ranking import PENALTY, rank
from lightning_seg.reviewing.regions import FLOOR, SHARE_WEIGHT, UNIT, decode, find_regions, opinion_of

IGNORE = 255


def probabilities(predicted: np.ndarray, sure: float, classes: int = 3) -> np.ndarray:
    found = np.full((classes, *predicted.shape), (1 - sure) / (classes - 1), np.float32)
    np.put_along_axis(found, predicted[None], sure, 0)
    return found


def test_a_region_has_its_pixels_and_its_evidence() -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[10:20, 5:25] = 1
    predicted = np.zeros((40, 50), np.int64)
    predicted[12:18, 8:20] = 2  # inside the labelled region, in which class 0 is predicted elsewhere
    labels[0, :] = IGNORE
    whole = probabilities(predicted, 0.9)
    bands = [(0, whole[:, :13]), (13, whole[:, 13:])]
    regions = find_regions(labels, opinion_of(labels, bands, IGNORE), IGNORE)
    assert [(region.label, region.predicted) for region in regions] == [(1, 2), (1, 0)]
    inner, outer = regions
    assert (inner.pixels, inner.box) == (72, (8, 12, 12, 6))
    assert inner.confidence == pytest.approx(0.9)
    assert inner.label_probability == pytest.approx(0.05)
    odds = math.log((0.9 + FLOOR) / (0.05 + FLOOR))
    assert inner.share == 1
    assert inner.evidence == pytest.approx(odds * math.log(72 / (UNIT * 2000)), abs=1e-3)
    share = (10 * 20 - 72) / (2000 - 72)  # all around it is predicted 0, too
    assert outer.share == pytest.approx(share, abs=1e-4)
    expected = odds * math.log(128 / (UNIT * 2000)) + SHARE_WEIGHT * math.log(share)
    assert outer.evidence == pytest.approx(expected, abs=1e-3)
    assert np.array_equal(decode(inner.counts, (40, 50)), (predicted == 2))


def test_ignored_pixels_tiny_regions_and_unsure_predictions_are_none() -> None:
    labels = np.zeros((30, 30), np.uint8)
    labels[:10] = IGNORE
    predicted = np.ones((30, 30), np.int64)
    predicted[10:] = 0
    predicted[20, 20:24] = 1  # 4 pixels
    assert find_regions(labels, opinion_of(labels, [(0, probabilities(predicted, 0.99))], IGNORE), IGNORE) == []
    predicted[15:25, 5:15] = 2
    unsure = opinion_of(labels, [(0, probabilities(predicted, 0.35))], IGNORE)
    assert find_regions(labels, unsure, IGNORE) == []


def test_regions_that_touch_at_a_corner_are_two() -> None:
    labels, predicted = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.int64)
    predicted[2:8, 2:8] = predicted[8:14, 8:14] = 1
    found = find_regions(labels, opinion_of(labels, [(0, probabilities(predicted, 0.9))], IGNORE), IGNORE)
    assert [region.box for region in found] == [(2, 2, 6, 6), (8, 8, 6, 6)]


def region(label: int, predicted: int, evidence: float) -> dict[str, object]:
    return {"label": label, "predicted": predicted, "evidence": evidence}


def test_a_confusion_that_is_everywhere_ranks_below_a_weaker_one_that_is_not() -> None:
    judged = [(str(image), [region(0, 1, 30.0 + image)]) for image in range(20)]
    judged[3][1].append(region(2, 1, 25.0))
    judged[3][1].append(region(2, 1, 26.0))  # in the same image, which is not elsewhere
    suspects, total = rank(lambda: iter(judged), most=3)
    assert [(one.image, one.region["label"], one.elsewhere, one.score) for one in suspects] == [
        ("19", 0, 0, 49.0),
        ("18", 0, 1, round(48 - PENALTY * math.log(2), 3)),
        ("17", 0, 2, round(47 - PENALTY * math.log(3), 3)),
    ]
    everyone, _ = rank(lambda: iter(judged), most=100)
    assert total == len(everyone) == 22
    order = [(one.image, one.region["label"]) for one in everyone]
    assert order.index(("3", 2)) < order.index(("3", 0))  # 26 against 33 − 6 · ln 17


def test_encodings_of_another_size_are_refused() -> None:
    labels, predicted = np.zeros((20, 20), np.uint8), np.ones((20, 20), np.int64)
    [whole] = find_regions(labels, opinion_of(labels, [(0, probabilities(predicted, 0.9))], IGNORE), IGNORE)
    with pytest.raises(ValueError, match="does not fit an image of 5×5"):
        decode(whole.counts, (5, 5))
