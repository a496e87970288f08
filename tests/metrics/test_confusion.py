"""What is reported of the metrics' states."""

import json

import torch

from tests.metrics.reports import report_of


def test_report_is_valid_json_with_nulls_for_absent_classes() -> None:
    matrix = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    images = [torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 0]]), torch.zeros_like(matrix)]
    report = report_of("val", ["a", "b", "c"], *images, matrix - images[0]).as_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["IoU"] == {"a": 0.75, "b": 0.8, "c": None}
    assert report["mIoU"] == (0.75 + 0.8) / 2
    assert report["Precision"] == {"a": 1.0, "b": 0.8, "c": None}
    assert report["Recall"] == {"a": 0.75, "b": 1.0, "c": None}
    assert report["mDice"] == (6 / 7 + 8 / 9) / 2
    assert report["mIoU_per_image"] == 0.75
    assert report["mIoU_worst_tenth"] == 0.5
    assert report["num_images"] == 3
    assert report["num_valid_pixels"] == 8
    assert report["confusion_matrix"] == [[3, 1, 0], [0, 4, 0], [0, 0, 0]]
    assert "BoundaryIoU" not in report
