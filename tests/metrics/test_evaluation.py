"""An evaluation counts every image once, also the last one, whose figures arrive late."""

import pytest
import torch
from torch import Tensor

from lightning_seg.metrics import Evaluation
from lightning_seg.metrics.functional import confusion_matrix, histogram, mean_iou

NAMES = ["a", "b", "c"]


def maps(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = (torch.randint(0, 3, (5, 7), generator=generator).to(torch.uint8) for _ in range(2))
    truth[0] = 255
    return prediction, truth


def test_counts_each_image_once_and_begins_anew() -> None:
    evaluation = Evaluation(NAMES, 255, "detectron2", boundary_iou=True)
    for _ in range(2):
        evaluation.reset()
        for seed in range(3):
            evaluation.update(*maps(seed))
            evaluation.add_loss(torch.tensor(float(seed)), 1)
        counts = [confusion_matrix(*maps(seed), 3, 255) for seed in range(3)]
        assert evaluation.running_mean_iou() == mean_iou(sum(counts, torch.zeros(3, 3))).item()
        report, loss = evaluation.report("val")
        assert torch.equal(report.matrix, torch.stack(counts).sum(0))
        assert report.image_iou.tolist() == [mean_iou(one).item() for one in counts]
        assert loss == 1.0
        assert report.boundary is not None


def test_a_foreign_id_of_the_last_image_is_refused_too() -> None:
    evaluation = Evaluation(NAMES, 255, "detectron2", boundary_iou=False)
    prediction, truth = maps(0)
    evaluation.update(prediction, truth.where(truth != 1, 7))
    with pytest.raises(ValueError, match="truth holds ids 0 to 7, but there are 3 classes"):
        evaluation.report("val")


def test_histogram_of_a_gpu() -> None:
    """Its form on the meta device, which has no values, and its values on a GPU in tests/gpu."""
    assert histogram(torch.tensor([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    assert histogram(torch.empty(5, dtype=torch.int32, device="meta"), 4).shape == (4,)
