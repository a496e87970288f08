"""The expected calibration error equals independent computations, on any split of the images."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from lightning_seg.cli import main
from lightning_seg.metrics import Evaluation
from lightning_seg.metrics.calibration import BINS, Calibration, count_confidences


def generated(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(4, 13, 17, generator=generator)).softmax(0)
    truth = torch.randint(0, 4, (13, 17), generator=generator)
    truth[:2] = 255
    return probabilities, probabilities.argmax(0), truth


def test_error_equals_that_of_torchmetrics_and_does_not_depend_on_the_order() -> None:
    images = [generated(seed) for seed in range(3)]
    parts = [count_confidences(p.amax(0), label, truth, 255) for p, label, truth in images]
    found = Calibration(torch.stack(parts).sum(0))
    together = torch.cat([p.flatten(1).t() for p, _, _ in images]), torch.cat([t.flatten() for _, _, t in images])
    expected = multiclass_calibration_error(*together, num_classes=4, n_bins=BINS, ignore_index=255)
    assert found.error == pytest.approx(expected.item(), abs=1e-6)
    assert torch.equal(found.counts, parts[2] + parts[0] + parts[1])


@pytest.mark.parametrize("ignore", [255, -1, 0])
def test_counts_are_those_of_a_loop(ignore: int) -> None:
    generator = torch.Generator().manual_seed(1)
    confidence = torch.rand(11, 13, generator=generator)
    confidence[0, :5] = torch.tensor([0.0, 1.0, 1 / 15, 0.2, 14 / 15])
    labels, truth = (torch.randint(0, 3, (11, 13), generator=generator) for _ in range(2))
    truth[5] = ignore
    expected = [[0, 0, 0] for _ in range(BINS)]
    for sure, label, true in zip(confidence.flatten(), labels.flatten(), truth.flatten(), strict=True):
        if true != ignore:
            units = round(float(sure) * 2**24)
            one = expected[min(units * BINS // 2**24, BINS - 1)]
            one[0], one[1], one[2] = one[0] + 1, one[1] + int(label == true), one[2] + units
    assert count_confidences(confidence, labels.to(torch.uint8), truth, ignore).tolist() == expected


def test_borders_and_nothing() -> None:
    sure = torch.tensor([[0.0, 1.0, 1.0]])
    counts = count_confidences(sure, torch.tensor([[1, 1, 0]]), torch.tensor([[0, 1, 1]]), 255)
    assert counts[0].tolist() == [1, 0, 0]
    assert counts[-1].tolist() == [2, 1, 2 * 2**24]
    assert Calibration(counts).error == pytest.approx(1 / 3)
    assert Calibration(torch.zeros_like(counts)).as_json()["ECE"] is None


def test_no_number_is_no_confidence() -> None:
    sure = torch.tensor([[math.nan, math.nan, 1.0]])
    counts = count_confidences(sure, torch.tensor([[1, 0, 1]]), torch.tensor([[1, 1, 1]]), 255)
    assert counts[0].tolist() == [2, 1, 0]
    assert counts[-1].tolist() == [1, 1, 2**24]


def test_it_is_reported_where_it_is_asked_for() -> None:
    probabilities, labels, truth = generated(0)
    for asked in (True, False):
        evaluation = Evaluation(["a", "b", "c", "d"], 255, "mmseg", calibration=asked)
        evaluation.update(labels, truth, confidence=probabilities.amax(0))
        report = evaluation.report("val")
        assert ("calibration" in report.as_json()) == ("ECE" in report.logged) == asked
        assert list(report.logged) == evaluation.figure_names()


def test_a_command_counts_what_it_predicts(experiment: Callable[..., Path], scenes: Path) -> None:
    main(["fit", "--config", str(experiment()), "--trainer.max_steps", "1"])
    run = "runs/tiny/version_0"
    main(["validate", "--ckpt_path", run, "--model.calibration", "true"])
    found = json.loads(Path("runs/tiny/version_1/metrics.json").read_text())
    plain = json.loads(Path(run, "metrics.json").read_text())
    assert found["confusion_matrix"] == plain["confusion_matrix"]
    assert "calibration" not in plain
    assert sum(one["count"] for one in found["calibration"]["bins"]) == found["num_valid_pixels"]
    right = sum(one["count"] * (one["accuracy"] or 0) for one in found["calibration"]["bins"])
    assert right == pytest.approx(found["pAcc"] * found["num_valid_pixels"])
