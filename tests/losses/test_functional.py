"""Losses against torch, torchvision, Detectron2's DeepLabCE, and loops over pixels in Python floats."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from lightning_seg.losses import functional, low_memory
from tests.losses.batches import make_batch

IGNORE_VALUES = [255, -1, 11]

LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": functional.cross_entropy,
    "cross_entropy_smoothed": partial(functional.cross_entropy, label_smoothing=0.1),
    "ohem": partial(functional.ohem_cross_entropy, threshold=0.4, min_kept=5),
    "hard_pixel": partial(functional.hard_pixel_cross_entropy, top_k_percent=0.3),
    "hard_pixel_all": partial(functional.hard_pixel_cross_entropy, top_k_percent=1.0),
    "focal": partial(functional.focal, gamma=2.0),
    "focal_flat": partial(functional.focal, gamma=0.5),
    "dice": partial(functional.dice, smooth=1.0),
    "dice_unsmoothed": partial(functional.dice, smooth=0.0),
    "lovasz_softmax": functional.lovasz_softmax,
    "boundary": partial(functional.boundary_weighted_cross_entropy, radius=1, boundary_weight=3.0),
    "low_memory_cross_entropy": low_memory.cross_entropy,
    "low_memory_cross_entropy_smoothed": partial(low_memory.cross_entropy, label_smoothing=0.1),
    "low_memory_ohem": partial(low_memory.ohem_cross_entropy, threshold=0.4, min_kept=5),
    "low_memory_hard_pixel": partial(low_memory.hard_pixel_cross_entropy, top_k_percent=0.3),
    "low_memory_hard_pixel_all": partial(low_memory.hard_pixel_cross_entropy, top_k_percent=1.0),
}
WEIGHTED = (
    "cross_entropy",
    "cross_entropy_smoothed",
    "ohem",
    "hard_pixel",
    "hard_pixel_all",
    "focal",
    "focal_flat",
    *(name for name in LOSSES if name.startswith("low_memory")),
)

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_ignore_value = pytest.mark.parametrize("ignore_index", IGNORE_VALUES)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """A batch with at least one pixel that counts, and its ignore value."""
    shape = tuple(draw(st.integers(low, high)) for low, high in ((1, 3), (1, 5), (1, 6), (1, 6)))
    ignore_index = draw(st.sampled_from(IGNORE_VALUES))
    ignored = draw(st.sampled_from([0.0, 0.3, 0.9]))
    logits, target = make_batch(shape, ignore_index, draw(st.integers(0, 2**32 - 1)), ignored)
    target[0, 0, 0] = 0
    return logits, target, ignore_index


def pixels(logits: Tensor, target: Tensor, ignore_index: int) -> list[tuple[list[float], int]]:
    """Probabilities and label of each pixel that counts, in float64."""
    probabilities = logits.double().softmax(1).permute(0, 2, 3, 1).flatten(0, 2).tolist()
    return [pair for pair in zip(probabilities, target.flatten().tolist(), strict=True) if pair[1] != ignore_index]


def certain(labels: Tensor, num_classes: int = 4) -> Tensor:
    """Logits ±10⁴ that predict ``labels``."""
    return 1e4 * (2 * F.one_hot(labels, num_classes).permute(0, 3, 1, 2).float() - 1)


def close(ours: Tensor, expected: float | Tensor) -> bool:
    return math.isclose(ours.item(), float(expected), rel_tol=1e-5, abs_tol=1e-6)


def gradient(loss: Callable[..., Tensor], logits: Tensor, target: Tensor, **ignored: int) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, target, **ignored), logits)[0]


@settings(deadline=None, max_examples=30)
@given(batch=batches(), smoothing=st.sampled_from([0.0, 0.2]), weighted=st.booleans())
def test_cross_entropy_is_torchs(batch: tuple[Tensor, Tensor, int], smoothing: float, weighted: bool) -> None:
    logits, target, ignore_index = batch
    weights = torch.linspace(0.5, 2, logits.shape[1]) if weighted else None
    ours = partial(functional.cross_entropy, class_weights=weights, label_smoothing=smoothing)
    theirs = partial(F.cross_entropy, weight=weights, label_smoothing=smoothing)
    found, expected = (loss(logits, target, ignore_index=ignore_index) for loss in (ours, theirs))
    slopes = [gradient(loss, logits, target, ignore_index=ignore_index) for loss in (ours, theirs)]
    if weighted or smoothing:  # the same sums in another order
        assert close(found, expected)
        assert torch.allclose(*slopes, rtol=1e-5, atol=1e-7)
    else:
        assert torch.equal(found, expected)
        assert torch.equal(*slopes)


def test_cross_entropy_is_zero_where_all_pixels_weigh_nothing() -> None:
    logits = make_batch()[0]
    target = torch.zeros(2, 5, 7, dtype=torch.int64)
    loss = partial(functional.cross_entropy, class_weights=torch.tensor([0.0, 1, 1, 1]), ignore_index=255)
    assert loss(logits, target).item() == 0
    assert not gradient(loss, logits, target).any()


@settings(deadline=None, max_examples=30)
@given(
    batch=batches(), threshold=st.sampled_from([0.01, 0.3, 1.0]), min_kept=st.integers(1, 120), weighted=st.booleans()
)
def test_ohem_is_the_mean_of_the_hard(
    batch: tuple[Tensor, Tensor, int], threshold: float, min_kept: int, weighted: bool
) -> None:
    logits, target, ignore_index = batch
    weights = torch.linspace(0.5, 2, logits.shape[1]) if weighted else None
    ranked = sorted((probabilities[label], label) for probabilities, label in pixels(logits, target, ignore_index))
    kept = [pair for rank, pair in enumerate(ranked) if rank < min_kept or pair[0] < threshold]
    weight = [1.0 if weights is None else weights[label].item() for _, label in kept]
    total = sum(-math.log(p) * w for (p, _), w in zip(kept, weight, strict=True))
    found = functional.ohem_cross_entropy(
        logits, target, ignore_index=ignore_index, threshold=threshold, min_kept=min_kept, class_weights=weights
    )
    assert close(found, total / sum(weight))


def test_ohem_leaves_easy_pixels_without_gradient() -> None:
    logits = torch.tensor([[4.0, 0.0, -4.0, 4.0], [0.0, 0.0, 0.0, 0.0]]).view(1, 2, 1, 4)
    target = torch.tensor([[[0, 0, 0, 255]]])
    loss = partial(functional.ohem_cross_entropy, ignore_index=255, threshold=0.4)
    kept = [gradient(partial(loss, min_kept=count), logits, target)[0, 0, 0] != 0 for count in (1, 2, 3)]
    assert [mask.tolist() for mask in kept] == [
        [False, False, True, False],
        [False, True, True, False],
        [True, True, True, False],
    ]


@each_ignore_value
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("top_k_percent", [0.05, 0.2, 0.99, 1.0])
def test_hard_pixels_are_deeplabs(top_k_percent: float, weighted: bool, ignore_index: int) -> None:
    from detectron2.projects.deeplab.loss import DeepLabCE

    logits, target = make_batch(ignore_index=ignore_index, seed=1)
    weights = torch.linspace(0.5, 2, 4) if weighted else None
    ours = partial(
        functional.hard_pixel_cross_entropy,
        ignore_index=ignore_index, top_k_percent=top_k_percent, class_weights=weights,
    )  # fmt: skip
    theirs = DeepLabCE(ignore_index, top_k_percent, weights)
    assert torch.equal(ours(logits, target), theirs(logits, target))
    assert torch.equal(gradient(ours, logits, target), gradient(theirs, logits, target))


def test_hard_pixels_are_one_at_least() -> None:
    logits, target = torch.zeros(1, 2, 1, 3), torch.zeros(1, 1, 3, dtype=torch.int64)
    assert close(functional.hard_pixel_cross_entropy(logits, target, ignore_index=255, top_k_percent=0.1), math.log(2))


@settings(deadline=None, max_examples=30)
@given(batch=batches(), gamma=st.sampled_from([0.0, 0.5, 2.0, 5.0]), weighted=st.booleans())
def test_focal_is_the_formula(batch: tuple[Tensor, Tensor, int], gamma: float, weighted: bool) -> None:
    logits, target, ignore_index = batch
    alpha = torch.linspace(0.5, 2, logits.shape[1]) if weighted else None
    terms = [
        -(1.0 if alpha is None else alpha[label].item()) * (1 - p[label]) ** gamma * math.log(p[label])
        for p, label in pixels(logits, target, ignore_index)
    ]
    found = functional.focal(logits, target, ignore_index=ignore_index, gamma=gamma, class_weights=alpha)
    assert close(found, sum(terms) / len(terms))


@pytest.mark.parametrize("alpha", [-1.0, 0.25])
def test_focal_of_two_classes_is_torchvisions(alpha: float) -> None:
    logits, target = make_batch((2, 2, 5, 7), seed=3, ignored=0.0)
    weights = None if alpha < 0 else torch.tensor([1 - alpha, alpha])
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], target.float(), alpha, gamma=2.0, reduction="mean")
    assert close(functional.focal(logits, target, ignore_index=255, gamma=2.0, class_weights=weights), expected)


@settings(deadline=None, max_examples=30)
@given(batch=batches(), smooth=st.sampled_from([0.0, 1.0, 10.0]))
def test_dice_is_the_formula(batch: tuple[Tensor, Tensor, int], smooth: float) -> None:
    logits, target, ignore_index = batch
    counted = pixels(logits, target, ignore_index)
    losses = []
    for index in {label for _, label in counted}:
        overlap = sum(p[index] for p, label in counted if label == index)
        size = sum(p[index] for p, _ in counted) + sum(label == index for _, label in counted)
        losses.append(1 - (2 * overlap + smooth) / (size + smooth))
    expected = sum(losses) / len(losses)
    assert close(functional.dice(logits, target, ignore_index=ignore_index, smooth=smooth), expected)


def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
    """Of the prediction that differs from ``truth`` in the pixels ``wrong``: Berman et al., equation 6."""
    return len(wrong) / len(wrong | truth)


@settings(deadline=None, max_examples=30)
@given(batches())
def test_lovasz_is_the_integral_of_the_jaccard_loss_over_thresholds(batch: tuple[Tensor, Tensor, int]) -> None:
    """The Lovász extension of a set function is its Choquet integral: no ranking, no differences as in the code."""
    logits, target, ignore_index = batch
    counted = pixels(logits, target, ignore_index)
    losses = []
    for index in {label for _, label in counted}:
        truth = {pixel for pixel, (_, label) in enumerate(counted) if label == index}
        errors = [abs((pixel in truth) - p[index]) for pixel, (p, _) in enumerate(counted)]
        levels = sorted({0.0, *errors})
        losses.append(
            sum(
                (high - low) * jaccard_loss({pixel for pixel, error in enumerate(errors) if error >= high}, truth)
                for low, high in pairwise(levels)
            )
        )
    assert close(functional.lovasz_softmax(logits, target, ignore_index=ignore_index), sum(losses) / len(losses))


@settings(deadline=None, max_examples=30)
@given(batches())
def test_lovasz_of_certain_predictions_is_one_minus_iou(batch: tuple[Tensor, Tensor, int]) -> None:
    logits, target, ignore_index = batch
    prediction = logits.argmax(1)
    counted = target != ignore_index
    losses = []
    for index in target[counted].unique().tolist():
        ours, true = (prediction == index) & counted, target == index
        losses.append(1 - ((ours & true).sum() / (ours | true).sum()).item())
    found = functional.lovasz_softmax(certain(prediction, logits.shape[1]), target, ignore_index=ignore_index)
    assert close(found, sum(losses) / len(losses))


def test_lovasz_keeps_its_gradients_in_large_batches() -> None:
    logits, target = make_batch((1, 3, 300, 400))
    found, exact = (gradient(functional.lovasz_softmax, x, target, ignore_index=255) for x in (logits, logits.double()))
    assert (found - exact).norm() < 1e-4 * exact.norm()  # by subtraction of Jaccard losses it is 2e-3


@settings(deadline=None, max_examples=30)
@given(batch=batches(), radius=st.integers(1, 3), boundary_weight=st.sampled_from([0.0, 0.5, 4.0]))
def test_boundary_weights_are_those_of_a_loop(
    batch: tuple[Tensor, Tensor, int], radius: int, boundary_weight: float
) -> None:
    logits, target, ignore_index = batch
    losses = -logits.double().log_softmax(1)
    total = mass = 0.0
    for image, row, column in (target != ignore_index).nonzero().tolist():
        label = target[image, row, column].item()
        window = target[
            image, max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1
        ].flatten()
        near = any(other not in (label, ignore_index) for other in window.tolist())
        weight = 1 + boundary_weight * near
        total += weight * losses[image, label, row, column].item()
        mass += weight
    found = functional.boundary_weighted_cross_entropy(
        logits, target, ignore_index=ignore_index, radius=radius, boundary_weight=boundary_weight
    )
    assert close(found, total / mass)


def test_ignored_pixels_make_no_boundary() -> None:
    target = torch.tensor([[[0, 255, 0, 0, 0, 255, 1]]])
    logits = torch.randn(1, 2, 1, 7, generator=torch.Generator().manual_seed(0))
    loss = partial(functional.boundary_weighted_cross_entropy, ignore_index=255, boundary_weight=9.0)
    plain = functional.cross_entropy(logits, target, ignore_index=255)
    assert close(loss(logits, target, radius=1), plain)
    assert not close(loss(logits, target, radius=2), plain)  # class 1 is two columns from a 0, across the gap


@each_loss
@each_ignore_value
def test_all_ignored_gives_zero_and_no_gradient(loss: Callable[..., Tensor], ignore_index: int) -> None:
    target = torch.full((2, 5, 7), ignore_index)
    for scale in (1.0, 1e4):
        logits = (scale * make_batch()[0]).requires_grad_()
        value = loss(logits, target, ignore_index=ignore_index)
        value.backward()
        assert value.item() == 0
        assert logits.grad is not None
        assert not logits.grad.any()


@each_loss
@each_ignore_value
def test_ignored_pixels_neither_matter_nor_learn(loss: Callable[..., Tensor], ignore_index: int) -> None:
    logits, target = make_batch(ignore_index=ignore_index)
    ignored = (target == ignore_index).unsqueeze(1)
    changed = torch.where(ignored, logits.flip(1) + 3, logits)
    assert torch.equal(
        loss(changed, target, ignore_index=ignore_index), loss(logits, target, ignore_index=ignore_index)
    )
    slopes = gradient(loss, logits, target, ignore_index=ignore_index)
    assert not slopes[ignored.expand_as(slopes)].any()
    assert slopes.any()


@each_loss
@pytest.mark.parametrize("ignore_index", [255, 11])
def test_takes_uint8_labels(loss: Callable[..., Tensor], ignore_index: int) -> None:
    logits, target = make_batch(ignore_index=ignore_index)
    expected = loss(logits, target, ignore_index=ignore_index)
    assert torch.equal(loss(logits, target.to(torch.uint8), ignore_index=ignore_index), expected)
    bytes_without_ignored = torch.zeros(2, 5, 7, dtype=torch.uint8)  # −1 is no byte: nothing is ignored
    assert loss(logits, bytes_without_ignored, ignore_index=-1) > 0


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_half_precision_in_float32(loss: Callable[..., Tensor], dtype: torch.dtype) -> None:
    logits, target = make_batch()
    half = logits.to(dtype)
    found = loss(half, target, ignore_index=255)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(half.float(), target, ignore_index=255))
    assert gradient(loss, half, target, ignore_index=255).dtype == dtype
    with torch.autocast("cpu", dtype):
        assert torch.equal(loss(half, target, ignore_index=255), found)


@each_loss
def test_is_finite_at_extreme_logits(loss: Callable[..., Tensor]) -> None:
    logits, target = make_batch()
    extreme = 1e4 * logits.sign()
    right = certain(target.where(target != 255, 0))
    for saturated in (extreme, extreme.bfloat16(), right, -right):
        assert loss(saturated, target, ignore_index=255).isfinite()
        assert gradient(loss, saturated, target, ignore_index=255).isfinite().all()


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.endswith("smoothed")])
def test_is_zero_where_all_is_right(name: str) -> None:
    target = make_batch()[1]
    assert LOSSES[name](certain(target.where(target != 255, 0)), target, ignore_index=255) < 1e-6


@each_loss
def test_gradients_are_those_of_finite_differences(loss: Callable[..., Tensor]) -> None:
    logits, target = make_batch((2, 3, 2, 3))
    target[0, 0] = torch.arange(3)  # every class
    assert torch.autograd.gradcheck(partial(loss, target=target, ignore_index=255), logits.double().requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_never_waits_for_a_gpu(name: str) -> None:
    """Tensors on the meta device have no values: whatever reads one, as a GPU would have to be waited for, raises."""
    logits = torch.zeros(2, 4, 5, 7, device="meta")
    target = torch.zeros(2, 5, 7, dtype=torch.uint8, device="meta")
    weights = {"class_weights": torch.ones(4, device="meta")} if name in WEIGHTED else {}
    assert gradient(partial(LOSSES[name], **weights), logits, target, ignore_index=255).shape == logits.shape


@pytest.mark.parametrize("name", WEIGHTED)
def test_class_weights_keep_the_precision_of_logits(name: str) -> None:
    logits, target = make_batch()
    weights = torch.tensor([0.5, 1.0, 1.5, 2.0])
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        found = LOSSES[name](logits, target, ignore_index=255, class_weights=weights.to(dtype))
        assert torch.equal(found, LOSSES[name](logits, target, ignore_index=255, class_weights=weights))
    in_double = LOSSES[name](logits.double(), target, ignore_index=255, class_weights=weights)
    assert in_double.dtype == torch.float64


@each_loss
def test_refuses_foreign_shapes_and_ids(loss: Callable[..., Tensor]) -> None:
    logits, target = make_batch()
    with pytest.raises(ValueError, match=r"\(2, 4, 5, 7\) and target \(1, 5, 7\), but must be"):
        loss(logits, target[1:], ignore_index=255)
    with pytest.raises(ValueError, match="shape"):
        loss(logits[0], target[0], ignore_index=255)
    target[1, 2, 3] = 4
    with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)|[Oo]ut of bounds"):
        loss(logits, target, ignore_index=255)
