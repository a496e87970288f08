"""Figures against Detectron2's evaluator, torchmetrics and a transcription of mmsegmentation's rule."""

import math
import uuid

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics.functional.classification import (
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from lightning_seg.metrics import functional
from lightning_seg.metrics.boundary import MAX_CLASSES, boundary_confusion_matrix

IGNORE = 255


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """A prediction and a truth with ignored pixels and, often, absent classes."""
    num_classes = draw(st.integers(1, 7))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = rng.choice(num_classes, size=rng.integers(1, num_classes + 1), replace=False)
    truth = rng.choice(np.append(present, IGNORE), size=(height, width))
    prediction = rng.choice(rng.permutation(num_classes)[: rng.integers(1, num_classes + 1)], size=(height, width))
    return torch.from_numpy(prediction), torch.from_numpy(truth), num_classes


def detectron2_results(pairs: list[tuple[Tensor, Tensor]], num_classes: int) -> dict[str, float]:
    """The figures of ``SemSegEvaluator`` over images, in percent."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import SemSegEvaluator

    name = f"test_{uuid.uuid4().hex}"
    records = [{"file_name": str(index), "sem_seg_file_name": str(index)} for index in range(len(pairs))]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=[f"c{index}" for index in range(num_classes)], ignore_label=IGNORE)

    def load(file_name: str, dtype: type) -> np.ndarray:
        return pairs[int(file_name)][1].numpy().astype(dtype)

    try:
        evaluator = SemSegEvaluator(name, distributed=False, sem_seg_loading_fn=load)
        assert evaluator._compute_boundary_iou
        evaluator.reset()
        logits = [{"sem_seg": one_hot(prediction.long(), num_classes).permute(2, 0, 1)} for prediction, _ in pairs]
        with np.errstate(all="ignore"):
            evaluator.process(records, logits)
            return dict(evaluator.evaluate()["sem_seg"])
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def same(ours: float, theirs: float) -> bool:
    return (math.isnan(ours) and math.isnan(theirs)) or math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-9)


@settings(deadline=None, max_examples=60)
@given(first=label_maps(), seed=st.integers(0, 99))
def test_equals_detectron2(first: tuple[Tensor, Tensor, int], seed: int) -> None:
    prediction, truth, num_classes = first
    if not (truth != IGNORE).any():
        return  # Detectron2 divides by zero
    rng = np.random.default_rng(seed)
    second = (torch.from_numpy(rng.integers(0, num_classes, (3, 5))), torch.full((3, 5), IGNORE))
    expected = detectron2_results([(prediction, truth), second], num_classes)
    matrix = sum(functional.confusion_matrix(*pair, num_classes, IGNORE) for pair in ((prediction, truth), second))
    assert same(100 * functional.mean_iou(matrix, "detectron2").item(), expected["mIoU"])
    assert same(100 * functional.frequency_weighted_iou(matrix).item(), expected["fwIoU"])
    assert same(100 * functional.mean_accuracy(matrix).item(), expected["mACC"])
    assert same(100 * functional.pixel_accuracy(matrix).item(), expected["pACC"])
    for index, value in enumerate(functional.iou_per_class(matrix, "detectron2").tolist()):
        assert same(100 * value, expected[f"IoU-c{index}"])
    for index, value in enumerate(functional.recall_per_class(matrix, "detectron2").tolist()):
        assert same(100 * value, expected[f"ACC-c{index}"])
    boundary = sum(boundary_confusion_matrix(*pair, num_classes, IGNORE) for pair in ((prediction, truth), second))
    for index, value in enumerate(functional.iou_per_class(boundary, "mmseg").tolist()):
        assert same(100 * value, expected[f"BoundaryIoU-c{index}"])


@settings(deadline=None)
@given(label_maps())
def test_equals_torchmetrics(maps: tuple[Tensor, Tensor, int]) -> None:
    prediction, truth, num_classes = maps
    if num_classes < 2:
        return  # torchmetrics asks for two
    matrix = functional.confusion_matrix(prediction, truth, num_classes, IGNORE)
    figures = {
        multiclass_jaccard_index: functional.mean_iou(matrix, "torchmetrics"),
        multiclass_f1_score: functional.dice_per_class(matrix, "torchmetrics").nanmean(),
        multiclass_precision: functional.precision_per_class(matrix, "torchmetrics").nanmean(),
        multiclass_recall: functional.recall_per_class(matrix, "torchmetrics").nanmean(),
    }
    for reference, found in figures.items():
        expected = reference(prediction, truth, num_classes, average="macro", ignore_index=IGNORE)
        if (truth != IGNORE).any():  # else torchmetrics says 0, and here no figure exists
            torch.testing.assert_close(found.float(), expected)
        else:
            assert found.isnan()


@settings(deadline=None)
@given(label_maps())
def test_equals_mmseg(maps: tuple[Tensor, Tensor, int]) -> None:
    """mmseg's ``IoUMetric``: histograms of intersection, prediction and label, then the mean of what is no NaN."""
    prediction, truth, num_classes = maps
    counted = truth != IGNORE
    predicted, label = prediction[counted], truth[counted]
    hits, in_prediction, in_label = np.zeros((3, num_classes))
    for index in range(num_classes):
        hits[index] = ((predicted == index) & (label == index)).sum()
        in_prediction[index] = (predicted == index).sum()
        in_label[index] = (label == index).sum()
    with np.errstate(all="ignore"):
        expected = {
            functional.iou_per_class: hits / (in_prediction + in_label - hits),
            functional.dice_per_class: 2 * hits / (in_prediction + in_label),
            functional.precision_per_class: hits / in_prediction,
            functional.recall_per_class: hits / in_label,
        }
    matrix = functional.confusion_matrix(prediction, truth, num_classes, IGNORE)
    for figure, values in expected.items():
        np.testing.assert_allclose(figure(matrix, "mmseg").numpy(), values, rtol=1e-12)
    iou = expected[functional.iou_per_class]
    mean = float(iou[~np.isnan(iou)].mean()) if counted.any() else math.nan
    assert same(functional.mean_iou(matrix, "mmseg").item(), mean)


@pytest.mark.parametrize("size", [(1, 1), (61, 90), (200, 301)])
def test_boundary_iou_equals_detectron2_on_wide_boundaries(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 6, (2, 20, 20))
    rows, columns = (np.arange(side) * 20 // max(side, 20) for side in size)
    prediction, truth = (torch.from_numpy(labels[rows][:, columns].astype(np.uint8)) for labels in blocks)
    truth = torch.where(truth == 5, IGNORE, truth)
    expected = detectron2_results([(prediction, truth)], 6)
    counts = boundary_confusion_matrix(prediction, truth.int() - 256 * (truth == IGNORE), 6, IGNORE - 256)
    for index, value in enumerate(functional.iou_per_class(counts, "mmseg").tolist()):
        assert same(100 * value, expected[f"BoundaryIoU-c{index}"])


@pytest.mark.parametrize("num_classes", [2, 255, 256, 1000])
@pytest.mark.parametrize("ignore_index", [-1, 255, 5000])
def test_counts_are_exact_for_every_type_and_bounded_when_deterministic(num_classes: int, ignore_index: int) -> None:
    """pixels × classes² would be terabytes."""
    if 0 <= ignore_index < num_classes:
        pytest.skip("a class cannot be ignored")
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, num_classes, (2, 1100, 1000))
    truth[:5] = ignore_index
    expected = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(expected, (truth[5:], prediction[5:]), 1)
    torch.use_deterministic_algorithms(True)
    try:
        for kind in (torch.int64, torch.int32, torch.int16):
            ids = torch.from_numpy(prediction).to(torch.uint8 if num_classes <= 256 else torch.int16)
            found = functional.confusion_matrix(ids, torch.from_numpy(truth).to(kind), num_classes, ignore_index)
            assert found.dtype == torch.int64
            assert np.array_equal(found.numpy(), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_type_that_cannot_hold_the_ignored_value_ignores_nothing() -> None:
    truth = torch.tensor([1, 255], dtype=torch.uint8)
    found = functional.confusion_matrix(torch.zeros(2, dtype=torch.uint8), truth, 256, ignore_index=-1)
    assert found.sum() == 2
    assert MAX_CLASSES < 255


def test_worst_tenth_is_the_same_in_any_order() -> None:
    values = torch.rand(37, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[3] = torch.nan
    expected = np.sort(values[~values.isnan()].numpy())[:4].mean()
    assert functional.worst_mean(values).item() == pytest.approx(expected, rel=1e-14)
    assert functional.worst_mean(values.flip(0)).item() == functional.worst_mean(values).item()
    assert math.isnan(functional.worst_mean(values[3:4]).item())


def test_counts_every_pixel_once() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 3, (5, 7), generator=generator)
    truth = torch.randint(0, 4, (5, 7), generator=generator)
    truth[truth == 3] = IGNORE
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for true, predicted in zip(truth.flatten().tolist(), prediction.flatten().tolist(), strict=True):
        if true != IGNORE:
            expected[true, predicted] += 1
    assert torch.equal(functional.confusion_matrix(prediction, truth.to(torch.uint8), 3, IGNORE), expected)


def test_predicted_but_absent_class_counts_by_rule() -> None:
    matrix = torch.tensor([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    assert functional.mean_iou(matrix, "detectron2").item() == pytest.approx(0.75)
    assert functional.mean_iou(matrix, "mmseg").item() == pytest.approx(0.375)
    assert functional.mean_iou(matrix, "torchmetrics").item() == pytest.approx(0.375)
    with pytest.raises(ValueError, match="must be one of detectron2, mmseg, torchmetrics"):
        functional.mean_iou(matrix, "macro")  # type: ignore[arg-type]


def test_no_pixel_gives_no_figure() -> None:
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    for figure in (functional.mean_iou, functional.mean_accuracy, functional.pixel_accuracy):
        assert math.isnan(figure(matrix).item())
    assert math.isnan(functional.frequency_weighted_iou(matrix).item())


def test_refuses_foreign_ids_and_shapes() -> None:
    with pytest.raises(ValueError, match="truth holds ids 0 to 3, but there are 3 classes"):
        functional.confusion_matrix(torch.tensor([0, 1]), torch.tensor([0, 3]), 3, IGNORE)
    with pytest.raises(ValueError, match="prediction holds ids -1 to 1"):
        functional.confusion_matrix(torch.tensor([-1, 1]), torch.tensor([0, 1]), 3, IGNORE)
    with pytest.raises(ValueError, match="shape"):
        functional.confusion_matrix(torch.zeros(2, 2), torch.zeros(2, 3), 3, IGNORE)
