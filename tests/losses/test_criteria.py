"""The classes: what they pass on to the functions, resizing, class weights, errors, and configurations."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.losses import (
    OHEM,
    BoundaryWeighted,
    Criterion,
    CrossEntropy,
    Dice,
    Focal,
    HardPixelMining,
    LovaszSoftmax,
    WeightedSum,
    functional,
)
from tests.losses.batches import make_batch

IGNORE = 255
WEIGHTS = [0.5, 1.0, 1.5, 2.0]
TENSOR = torch.tensor(WEIGHTS)

CRITERIA: dict[str, tuple[Criterion, Callable[..., Tensor]]] = {
    "loss_cross_entropy": (
        CrossEntropy(WEIGHTS, label_smoothing=0.1),
        partial(functional.cross_entropy, class_weights=TENSOR, label_smoothing=0.1),
    ),
    "loss_ohem": (
        OHEM(0.4, 5, WEIGHTS),
        partial(functional.ohem_cross_entropy, threshold=0.4, min_kept=5, class_weights=TENSOR),
    ),
    "loss_hard_pixel_mining": (
        HardPixelMining(0.3, WEIGHTS),
        partial(functional.hard_pixel_cross_entropy, top_k_percent=0.3, class_weights=TENSOR),
    ),
    "loss_focal": (Focal(1.5, WEIGHTS), partial(functional.focal, gamma=1.5, class_weights=TENSOR)),
    "loss_dice": (Dice(smooth=3.0), partial(functional.dice, smooth=3.0)),
    "loss_lovasz_softmax": (LovaszSoftmax(), functional.lovasz_softmax),
    "loss_boundary_weighted": (
        BoundaryWeighted(2, 4.0),
        partial(functional.boundary_weighted_cross_entropy, radius=2, boundary_weight=4.0),
    ),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_passes_its_settings_on(name: str) -> None:
    criterion, function = CRITERIA[name]
    logits, target = make_batch(seed=2)
    losses = criterion(logits, target, IGNORE)
    assert losses.keys() == {name}
    assert losses[name].shape == ()
    assert torch.equal(losses[name], function(logits, target, ignore_index=IGNORE))


@pytest.mark.parametrize("name", CRITERIA)
def test_is_zero_for_small_logits_and_ignored_targets(name: str) -> None:
    logits = make_batch((2, 4, 3, 2))[0].requires_grad_()
    loss = CRITERIA[name][0](logits, torch.full((2, 9, 7), IGNORE, dtype=torch.uint8), IGNORE)[name]
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_resizes_logits_as_detectron2s_heads_do() -> None:
    logits, target = make_batch((2, 4, 3, 5))[0], make_batch((2, 4, 12, 20))[1]
    upsampled = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(upsampled, target, ignore_index=IGNORE)
    assert torch.equal(CrossEntropy()(logits, target, IGNORE)["loss_cross_entropy"], expected)


def test_resizes_half_precision_in_float32_and_to_odd_sizes() -> None:
    logits, target = make_batch((2, 4, 3, 5))[0].bfloat16(), make_batch((2, 4, 10, 17))[1]
    upsampled = F.interpolate(logits.float(), (10, 17), mode="bilinear", align_corners=False)
    loss = Dice()(logits, target, IGNORE)["loss_dice"]
    assert torch.equal(loss, functional.dice(upsampled, target, ignore_index=IGNORE, smooth=1.0))


def test_class_weights_move_with_the_module_and_stay_out_of_checkpoints() -> None:
    criterion = WeightedSum([CrossEntropy(WEIGHTS), Focal(class_weights=WEIGHTS)], [1.0, 1.0])
    assert criterion.state_dict() == {}
    assert {buffer.dtype for buffer in criterion.buffers()} == {torch.float32}
    logits, target = make_batch()
    losses = criterion.double()(logits, target, IGNORE)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert [str(buffer.device) for buffer in criterion.to("meta").buffers()] == ["meta", "meta"]


@pytest.mark.parametrize("criterion", [CrossEntropy, OHEM, HardPixelMining, Focal])
def test_refuses_another_number_of_class_weights(criterion: type[Criterion]) -> None:
    logits, target = make_batch()
    message = rf"^{criterion.__name__}\.class_weights holds 3 weights, but the model has 4 classes: give one weight for"
    for wrong in (criterion(class_weights=[1.0, 1.0, 1.0]), WeightedSum([criterion(class_weights=[1.0] * 3)], [1.0])):
        with pytest.raises(ConfigError, match=message):
            wrong(logits, target, IGNORE)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CrossEntropy([1.0, -2.0]), r"CrossEntropy\.class_weights is \[1\.0, -2\.0\], but must be finite"),
        (lambda: Focal(class_weights=[1.0, math.nan]), r"Focal\.class_weights is \[1\.0, nan\]"),
        (lambda: CrossEntropy(label_smoothing=1.0), r"CrossEntropy\.label_smoothing is 1\.0, but must be in \[0, 1\)"),
        (lambda: CrossEntropy(label_smoothing=-0.1), r"label_smoothing is -0\.1"),
        (lambda: OHEM(threshold=0.0), r"OHEM\.threshold is 0\.0, but must be in \(0, 1\]"),
        (lambda: OHEM(threshold=1.5), r"OHEM\.threshold is 1\.5"),
        (lambda: OHEM(min_kept=0), r"OHEM\.min_kept is 0, but must be at least 1: it is a number of pixels per batch"),
        (lambda: HardPixelMining(0.0), r"HardPixelMining\.top_k_percent is 0\.0, but must be in \(0, 1\]"),
        (lambda: HardPixelMining(20.0), r"HardPixelMining\.top_k_percent is 20\.0, but .* 0\.2 keeps a fifth"),
        (lambda: Focal(gamma=-1.0), r"Focal\.gamma is -1\.0, but must be finite, at least 0"),
        (lambda: Focal(gamma=math.nan), r"Focal\.gamma is nan"),
        (lambda: Dice(smooth=-1.0), r"Dice\.smooth is -1\.0"),
        (lambda: BoundaryWeighted(radius=0, boundary_weight=1.0), r"BoundaryWeighted\.radius is 0, but must be at lea"),
        (lambda: BoundaryWeighted(radius=1, boundary_weight=-1.0), r"BoundaryWeighted\.boundary_weight is -1\.0"),
        (lambda: WeightedSum([], []), r"WeightedSum\.criteria is empty, but must be a list of one loss or more"),
        (lambda: WeightedSum([Dice()], [1.0, 2.0]), r"WeightedSum\.weights is 2 numbers for 1 criteria, but must be o"),
        (lambda: WeightedSum([Dice()], []), r"WeightedSum\.weights is 0 numbers for 1 criteria"),
        (lambda: WeightedSum([Dice()], [-1.0]), r"WeightedSum\.weights is \[-1\.0\], but must be finite, at least 0"),
        (lambda: WeightedSum([Dice()], [math.inf]), r"WeightedSum\.weights is \[inf\]"),
        (lambda: CrossEntropy([1.0, math.inf]), r"CrossEntropy\.class_weights is \[1\.0, inf\]"),
        (lambda: Focal(gamma=math.inf), r"Focal\.gamma is inf"),
        (lambda: Dice(smooth=math.inf), r"Dice\.smooth is inf"),
        (lambda: BoundaryWeighted(radius=1, boundary_weight=math.inf), r"BoundaryWeighted\.boundary_weight is inf"),
    ],
)
def test_refuses_settings_out_of_range(build: Callable[[], Criterion], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    "criterion",
    [
        CrossEntropy([0.0, 1.0, 1.0, 1.0, 1.0], label_smoothing=0.0),
        OHEM(threshold=1.0, min_kept=1),
        HardPixelMining(top_k_percent=1.0),
        Focal(gamma=0.0),
        Dice(smooth=0.0),
        BoundaryWeighted(radius=1, boundary_weight=0.0),
        WeightedSum([Dice(), CrossEntropy()], [0.0, 1.0]),
    ],
    ids=lambda criterion: type(criterion).__name__,
)
def test_settings_at_the_ends_of_their_ranges_are_taken(criterion: Criterion) -> None:
    logits, target = make_batch((2, 5, 6, 7))
    assert sum(criterion(logits, target, IGNORE).values()).isfinite()  # type: ignore[union-attr]


def test_weighted_sum_multiplies_and_names_its_parts() -> None:
    logits, target = make_batch((2, 4, 3, 4))[0], make_batch((2, 4, 9, 10))[1]
    parts = [CrossEntropy(), Dice(smooth=1.0), Dice(smooth=0.0), CrossEntropy(WEIGHTS), Dice(smooth=9.0)]
    weights = [1.0, 0.5, 2.0, 0.0, 3.0]
    criterion = WeightedSum(parts, weights)
    losses = criterion(logits, target, IGNORE)
    expected = [
        weight * next(iter(part(logits, target, IGNORE).values())) for part, weight in zip(parts, weights, strict=True)
    ]
    assert list(losses) == ["loss_cross_entropy", "loss_dice", "loss_dice_2", "loss_cross_entropy_2", "loss_dice_3"]
    assert list(losses.values()) == expected
    assert torch.equal(criterion.loss(logits, target, IGNORE), torch.stack(expected).sum())


def test_weighted_sums_nest() -> None:
    logits, target = make_batch()
    inner = WeightedSum([Dice(smooth=0.0), Dice(smooth=9.0)], [1.0, 2.0])
    losses = WeightedSum([Dice(smooth=1.0), inner], [1.0, 0.5])(logits, target, IGNORE)
    expected = [
        factor * functional.dice(logits, target, ignore_index=IGNORE, smooth=smooth)
        for factor, smooth in ((1.0, 1.0), (0.5, 0.0), (1.0, 9.0))
    ]
    assert len(losses) == 3
    assert torch.equal(torch.stack(list(losses.values())), torch.stack(expected))


CONFIG = """
criterion:
  class_path: lightning_seg.losses.WeightedSum
  init_args:
    criteria:
      - class_path: lightning_seg.losses.CrossEntropy
        init_args: {class_weights: [0.5, 1, 1.5, 2], label_smoothing: 0.1}
      - {class_path: lightning_seg.losses.OHEM, init_args: {threshold: 0.4, min_kept: 5}}
      - {class_path: lightning_seg.losses.HardPixelMining, init_args: {top_k_percent: 0.3}}
      - {class_path: lightning_seg.losses.Focal, init_args: {gamma: 1.5}}
      - {class_path: lightning_seg.losses.Dice, init_args: {smooth: 3}}
      - class_path: lightning_seg.losses.LovaszSoftmax
      - {class_path: lightning_seg.losses.BoundaryWeighted, init_args: {radius: 2, boundary_weight: 4}}
    weights: [1, 1, 1, 1, 1, 1, 0.5]
"""


def test_configurations_build_every_class() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--criterion", type=Criterion)
    criterion = parser.instantiate(parser.parse_string(CONFIG)).criterion
    logits, target = make_batch()
    losses = criterion(logits, target, IGNORE)
    assert list(losses) == list(CRITERIA)
    expected = 0.5 * CRITERIA["loss_boundary_weighted"][0](logits, target, IGNORE)["loss_boundary_weighted"]
    assert torch.equal(losses["loss_boundary_weighted"], expected)
    built = {type(part).__name__: part for part in criterion.criteria}
    assert built["CrossEntropy"].class_weights.tolist() == WEIGHTS
    assert (built["OHEM"].threshold, built["OHEM"].min_kept, built["Dice"].smooth) == (0.4, 5, 3.0)
