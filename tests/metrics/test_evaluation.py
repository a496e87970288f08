"""An evaluation counts every image once, also the last one, whose figures arrive late."""

import pytest
import torch
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.metrics import Evaluation
from lightning_seg.metrics.boundary import boundary_confusion_matrix, boundary_iou
from lightning_seg.metrics.error_kinds import count_kinds
from lightning_seg.metrics.functional import (
    _histogram_by_copies,
    confusion_matrix,
    histogram,
    iou_per_class,
    mean_iou,
)

NAMES = ["a", "b", "c"]


def maps(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = (torch.randint(0, 3, (5, 7), generator=generator).to(torch.uint8) for _ in range(2))
    truth[0] = 255
    return prediction, truth


def test_counts_each_image_once_and_begins_anew() -> None:
    evaluation = Evaluation(NAMES, 255, "detectron2", [boundary_iou(3)])
    for _ in range(2):
        evaluation.reset()
        for seed in range(3):
            evaluation.update(*maps(seed), loss=torch.tensor(float(seed)))
        counts = [confusion_matrix(*maps(seed), 3, 255) for seed in range(3)]
        assert evaluation.running_mean_iou() == mean_iou(sum(counts, torch.zeros(3, 3))).item()
        report = evaluation.report("val")
        assert torch.equal(report.matrix, torch.stack(counts).sum(0))
        assert report.images.mean_iou.tolist() == [mean_iou(one).item() for one in counts]
        assert report.images.positions.tolist() == [0, 1, 2]
        assert report.logged["loss"] == 1.0
        boundaries = [boundary_confusion_matrix(*maps(seed), 3, 255) for seed in range(3)]
        assert torch.equal(report.map_figures["BoundaryIoU"], iou_per_class(torch.stack(boundaries).sum(0), "mmseg"))
        assert evaluation.figure_names() == list(report.logged)
        assert {"mBoundaryIoU", "IoU/c"} < report.logged.keys()
        of_classes = ["mDice", "mPrecision", "mRecall", "mBoundaryIoU"]
        of_images = ["mIoU_per_image", "mIoU_worst_tenth"]
        assert list(report.averages) == ["mIoU", "mAcc", "pAcc", "fwIoU", *of_classes, *of_images]


def test_one_class_alone_has_figures_too() -> None:
    evaluation = Evaluation(["road"], 255, "detectron2", [boundary_iou(1)], error_budget=True, calibration=True)
    evaluation.update(torch.zeros(1, 2, dtype=torch.uint8), torch.tensor([[0, 255]]), confidence=torch.ones(1, 2))
    report = evaluation.report("val")
    assert report.matrix.tolist() == [[1]]
    assert report.averages["mIoU"] == report.averages["mBoundaryIoU"] == 1.0
    assert report.error_budget is not None
    assert report.error_budget.interaction == 0.0


def test_a_boundary_has_room_for_so_many_classes() -> None:
    assert boundary_iou(254).columns == 254
    with pytest.raises(ConfigError, match=r"at most 254 classes, as in Detectron2, but data\.classes names 255"):
        boundary_iou(255)


def test_few_images_are_held_while_their_errors_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.metrics.aside.usable_cpus", lambda: 2)
    evaluation = Evaluation(NAMES, 255, "detectron2", error_budget=True)
    evaluation.update(*maps(6))
    evaluation.update(*maps(7))
    evaluation.reset()  # an evaluation that was broken off leaves nothing behind
    for seed in range(6):
        evaluation.update(*maps(seed))
        assert len(evaluation._aside._tasks) <= 2
    found = evaluation.report("val").error_kinds
    assert found is not None
    assert torch.equal(found.view(3, 3, 3), sum(count_kinds(*maps(seed), 3, 255) for seed in range(6)))


def test_images_are_sorted_by_position_and_may_have_no_loss() -> None:
    evaluation = Evaluation(NAMES, 255, "detectron2")
    for seed, position in enumerate([5, 2, 9]):
        evaluation.update(*maps(seed), position)
    images = evaluation.report("val").images
    assert images.positions.tolist() == [2, 5, 9]
    for index, seed in enumerate([1, 0, 2]):
        assert torch.equal(images.matrix(index), confusion_matrix(*maps(seed), 3, 255))
    assert images.losses.isnan().all()


def test_a_foreign_id_of_the_last_image_is_refused_too() -> None:
    evaluation = Evaluation(NAMES, 255, "detectron2")
    prediction, truth = maps(0)
    evaluation.update(prediction, truth.where(truth != 1, 7))
    with pytest.raises(ValueError, match="truth holds ids 0 to 7, but there are 3 classes"):
        evaluation.report("val")


@pytest.mark.parametrize("count", [0, 1, 64, 1000])
def test_a_gpus_histogram_is_the_cpus(count: int) -> None:
    bins = torch.randint(0, 7, (count,), generator=torch.Generator().manual_seed(count), dtype=torch.int32)
    assert torch.equal(_histogram_by_copies(bins, 9), histogram(bins, 9))
    assert torch.equal(_histogram_by_copies(bins.to(torch.uint8), 300), histogram(bins, 300))
    assert histogram(bins.to("meta"), 9).shape == (9,)
    amounts = torch.arange(count, dtype=torch.int32) * 2**20
    sums = [int(amounts[bins == one].long().sum()) for one in range(9)]
    assert histogram(bins, 9, amounts).tolist() == _histogram_by_copies(bins, 9, amounts).tolist() == sums
