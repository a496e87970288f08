"""Losses of logits that are never upsampled as a whole, against the same losses of logits that are."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_seg.losses import OHEM, Criterion, CrossEntropy, HardPixelMining, WeightedSum, polyphase
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import MODELS
from tests.losses.batches import make_batch
from tests.models.samples import IGNORE, ZOO
from tests.models.samples import make_batch as make_samples

KINDS: dict[str, Callable[..., Criterion]] = {
    "cross_entropy": CrossEntropy,
    "smoothed": lambda **given: CrossEntropy(label_smoothing=0.1, **given),
    "ohem": lambda **given: OHEM(threshold=0.3, min_kept=20, **given),
    "ohem_few": lambda **given: OHEM(threshold=0.01, min_kept=7, **given),
    "hard_pixel": HardPixelMining,
    "hard_pixel_one": lambda **given: HardPixelMining(top_k_percent=1e-6, **given),
    "hard_pixel_all": lambda **given: HardPixelMining(top_k_percent=1.0, **given),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def value_and_gradient(criterion: Criterion, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    (value,) = criterion(logits, target, IGNORE).values()
    return value.detach(), torch.autograd.grad(2 * value, logits)[0]


def assert_same(kind: str, logits: Tensor, target: Tensor, tolerance: float = 1e-5, **given: Any) -> None:
    criteria = [KINDS[kind](low_memory=low, **given) for low in (True, False)]
    (value, slopes), (expected, others) = (value_and_gradient(criterion, logits, target) for criterion in criteria)
    assert criteria[0](logits, target, IGNORE).keys() == criteria[1](logits, target, IGNORE).keys()
    assert value.dtype == expected.dtype
    least = 1e-5 * tolerance  # of one class, all is zero but for rounding
    assert (value - expected).abs() <= tolerance * expected.abs() + least
    assert slopes.shape == others.shape
    assert (slopes - others).norm() <= tolerance * others.norm() + least
    assert (slopes - others).abs().max() <= tolerance * others.abs().max() + least


def make_small(size: tuple[int, int, int, int], target_size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    target = make_batch((size[0], size[1], *target_size), seed=seed)[1]
    return make_batch(size, seed=seed + 1)[0], target


def _is_tied(logits: Tensor, target: Tensor, kept: int) -> bool:
    """Whether another pixel is as hard as the easiest of those that are kept, to rounding."""
    upsampled = F.interpolate(logits, target.shape[1:], mode="bilinear", align_corners=False)
    losses = F.cross_entropy(upsampled, target, ignore_index=IGNORE, reduction="none").flatten().sort().values
    last = losses[-min(kept, len(losses))]
    return bool(((losses - last).abs() < 1e-12).sum() > 1)


@each_kind
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_equals_the_loss_of_upsampled_logits(kind: str, data: st.DataObject) -> None:
    """In float64, at sizes with and without whole strides, where the last pixel that is kept is no tie.

    Of ties, which pixels at a border are, rounding decides.
    """
    size = [data.draw(st.integers(1, high)) for high in (3, 5, 6, 7)]
    stride = data.draw(st.sampled_from([1, 2, 3, 4, 7, 8]))
    upsampled = (size[2] * stride, size[3] * stride)
    if data.draw(st.booleans()):
        upsampled = (data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30)))
    logits, target = make_small((size[0], size[1], size[2], size[3]), upsampled, data.draw(st.integers(0, 1000)))
    target[0, 0, 0] = 0
    weights = data.draw(st.sampled_from([None, [0.5, 1.0, 0.25, 2.0, 1.5][: size[1]]]))
    if kind.startswith("ohem"):
        assume(not _is_tied(logits.double(), target, KINDS[kind]().min_kept))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(polyphase._BAND_NUMBERS, "cpu", data.draw(st.sampled_from([1, 60, 1000, 1 << 20])))
        patch.setitem(polyphase._GROUP_NUMBERS, "cpu", data.draw(st.sampled_from([1, 60, 1000, 1 << 20])))
        patch.setattr(polyphase, "_BAND_SHARE", data.draw(st.sampled_from([0.0, 1 / 16])))
        assert_same(kind, logits.double(), target, 1e-9, class_weights=weights)


def test_a_gpu_is_given_few_bands_at_any_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of phases an axis, of those with the same neighbours: 256 phases of stride 16 are 4 bands."""
    for numbers in (polyphase._BAND_NUMBERS, polyphase._GROUP_NUMBERS):
        monkeypatch.setitem(numbers, "cpu", numbers["other"])
    for stride in (4, 16):
        bands: list[Tensor] = []
        size = torch.Size((2, 8 * stride, 16 * stride))
        polyphase.visit(torch.zeros(2, 19, 8, 16), size, lambda band, _, bands=bands: bands.append(band), None)
        assert len(bands) == 4
        assert sum(band.numel() for band in bands) == 19 * size.numel()


@each_kind
@pytest.mark.parametrize("num_classes", [2, 19, 150])
@pytest.mark.parametrize("upsampled", [(36, 52), (33, 49), (34, 50)])
def test_equals_it_in_single_precision(kind: str, num_classes: int, upsampled: tuple[int, int]) -> None:
    logits, target = make_small((2, num_classes, 9, 13), upsampled)
    assert_same(kind, logits, target)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_is_torchs_cross_entropy(smoothing: float) -> None:
    logits, target = make_small((2, 19, 9, 13), (36, 52))
    weights = torch.linspace(0.1, 2, 19)
    logits.requires_grad_()
    upsampled = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(upsampled, target, weights, ignore_index=IGNORE, label_smoothing=smoothing)
    (others,) = torch.autograd.grad(expected, logits)
    found = CrossEntropy(weights.tolist(), smoothing, low_memory=True)(logits, target, IGNORE)["loss_cross_entropy"]
    (slopes,) = torch.autograd.grad(found, logits)
    assert torch.allclose(found, expected, rtol=1e-6)
    assert (slopes - others).abs().max() <= 1e-5 * others.abs().max()


@each_kind
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    for upsampled in ((6, 8), (5, 7)):
        logits, target = make_small((2, 3, 3, 4), upsampled)
        criterion = KINDS[kind](low_memory=True, class_weights=[0.5, 1.0, 2.0])

        def loss(small: Tensor, target: Tensor = target, criterion: Criterion = criterion) -> Tensor:
            return next(iter(criterion(small, target, IGNORE).values()))

        assert torch.autograd.gradcheck(loss, logits.double().requires_grad_())


@each_kind
def test_takes_memory_formats_and_half_precision(kind: str) -> None:
    logits, target = make_small((2, 4, 5, 7), (20, 28))
    criterion = KINDS[kind](low_memory=True)
    value, slopes = value_and_gradient(criterion, logits, target)
    strided = value_and_gradient(criterion, logits.contiguous(memory_format=torch.channels_last), target)
    assert torch.equal(strided[0], value)
    assert torch.equal(strided[1], slopes)
    with torch.autocast("cpu", torch.bfloat16):
        half = value_and_gradient(criterion, logits.bfloat16(), target)
    assert half[0].dtype == torch.float32
    assert half[1].dtype == torch.bfloat16
    assert torch.equal(half[0], value_and_gradient(criterion, logits.bfloat16().float(), target)[0])


@each_kind
def test_ignored_batches_are_zero_and_saturated_ones_finite(kind: str) -> None:
    logits, target = make_small((2, 4, 5, 7), (20, 28))
    criterion = KINDS[kind](low_memory=True)
    value, slopes = value_and_gradient(criterion, logits, torch.full_like(target, IGNORE))
    assert value == 0
    assert not slopes.any()
    value, slopes = value_and_gradient(criterion, (1e4 * logits.sign()).bfloat16(), target)
    assert value.isfinite()
    assert slopes.isfinite().all()


@each_kind
def test_computes_a_gradient_only_where_one_is_asked_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = make_small((2, 4, 5, 7), (20, 28))
    criterion = KINDS[kind](low_memory=True)
    value, _ = value_and_gradient(criterion, logits, target)
    monkeypatch.setattr("lightning_seg.losses.low_memory.padded_zeros", None)
    (without,) = criterion(logits, target, IGNORE).values()
    assert torch.equal(without, value)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            (without,) = criterion(logits.requires_grad_(), target, IGNORE).values()
        assert torch.equal(without, value)
        assert not without.requires_grad


def test_says_that_it_is_differentiable_once() -> None:
    logits, target = make_small((1, 3, 4, 4), (16, 16))
    loss = CrossEntropy(low_memory=True)(logits.requires_grad_(), target, IGNORE)["loss_cross_entropy"]
    with pytest.raises(RuntimeError, match=r"low_memory .* differentiated once: .*create_graph"):
        torch.autograd.grad(loss, logits, create_graph=True)


@each_kind
def test_copies_and_pickles(kind: str) -> None:
    logits, target = make_small((1, 3, 4, 4), (16, 16))
    criterion = KINDS[kind](low_memory=True, class_weights=[1.0, 2.0, 3.0])
    expected = criterion(logits, target, IGNORE)
    for copy in (deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert copy(logits, target, IGNORE) == expected


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@each_kind
@pytest.mark.parametrize("upsampled", [(512, 512), (513, 515)])
def test_never_holds_the_upsampled_logits(kind: str, upsampled: tuple[int, int]) -> None:
    logits, target = make_small((2, 20, 128, 128), upsampled)
    with Largest() as largest:
        value_and_gradient(KINDS[kind](low_memory=True), logits, target)
    assert largest.numbers <= 1.1 * (1 << 20)  # of the 5 million of an image
    with Largest() as largest:
        value_and_gradient(KINDS[kind](low_memory=False), logits, target)
    assert largest.numbers >= 2 * 20 * 512 * 512


def test_a_weighted_sum_upsamples_for_none_of_its_parts_of_low_memory() -> None:
    logits, target = make_small((2, 20, 64, 64), (256, 256))
    pairs = [
        [CrossEntropy(low_memory=low), WeightedSum([OHEM(low_memory=low), HardPixelMining()], [0.5, 1.0])]
        for low in (True, False)
    ]
    low, high = (WeightedSum(parts, [1.0, 2.0])(logits, target, IGNORE) for parts in pairs)
    assert low.keys() == high.keys()
    assert all(torch.allclose(low[name], high[name], rtol=1e-5) for name in low)
    with Largest() as largest:
        WeightedSum([CrossEntropy(low_memory=True), WeightedSum([OHEM(low_memory=True)], [0.5])], [1.0, 2.0])(
            logits, target, IGNORE
        )
    assert largest.numbers < 20 * 256 * 256


@pytest.mark.parametrize("name", MODELS)
def test_is_the_loss_of_detectron2s_heads(name: str) -> None:
    criterion = HardPixelMining if name == "DeepLabV3" else CrossEntropy
    batch = make_samples([(61, 75), (64, 90)])
    recipe = load_recipe(ZOO, MODELS[name])
    torch.manual_seed(0)
    theirs = Segmentor(recipe, num_classes=5, ignore_index=IGNORE).train()
    ours = Segmentor(recipe, num_classes=5, ignore_index=IGNORE, criterion=criterion(low_memory=True)).train()
    ours.load_state_dict(theirs.state_dict())
    losses = []
    for segmentor in (ours, theirs):
        torch.manual_seed(1)
        losses.append(segmentor.losses(batch))
        torch.stack(list(losses[-1].values())).sum().backward()  # type: ignore[no-untyped-call]
    main = losses[0][f"loss_{criterion.name}"]
    assert torch.allclose(main, losses[1]["loss_sem_seg"], rtol=1e-5)
    for (parameter, found), (_, expected) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if expected.grad is not None:
            assert found.grad is not None, parameter
            assert torch.allclose(found.grad, expected.grad, rtol=1e-3, atol=1e-5 * expected.grad.abs().max() + 1e-7)


def test_an_auxiliary_head_takes_it_too() -> None:
    recipe = load_recipe(ZOO, MODELS["SemSegFPN"])
    losses = []
    for low in (True, False):
        torch.manual_seed(0)
        ours = Segmentor(
            recipe, num_classes=5, ignore_index=IGNORE, criterion=CrossEntropy(low_memory=low), auxiliary_stage="res4"
        )
        losses.append(ours.train().losses(make_samples([(61, 75), (64, 90)])))
    assert torch.allclose(losses[0]["loss_auxiliary"], losses[1]["loss_auxiliary"], rtol=1e-5)
