"""Losses of masks: ignored pixels count nowhere, and points lie where they should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from transformers.models.mask2former import modeling_mask2former  # noqa: F401  # once for all processes

from lightning_seg.models.heads.mask_losses import MaskLosses, MaskPrediction
from lightning_seg.models.heads.mask_points import Neighbours, at_points
from tests.models.samples import IGNORE
from tests.processes import run_processes

HEIGHT, WIDTH, CLASSES, QUERIES = 12, 16, 4, 6
LOSSES = MaskLosses(CLASSES, IGNORE, num_points=HEIGHT * WIDTH)


def prediction(images: int = 2, seed: int = 0) -> MaskPrediction:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(images, QUERIES, CLASSES + 1, generator=generator)
    return MaskPrediction(classes, 3 * torch.randn(images, QUERIES, HEIGHT, WIDTH, generator=generator))


def target(images: int = 2, seed: int = 0) -> Tensor:
    """A third of the pixels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, CLASSES, (images, HEIGHT, WIDTH), generator=generator)
    return ids.masked_fill(torch.rand(ids.shape, generator=generator) < 0.33, IGNORE)


def by_hand(said: MaskPrediction, targets: Tensor) -> dict[str, float]:
    """Of every pixel that counts, in loops."""
    entropies = weights = entropy = dice = 0.0
    masks = 0
    for classes, logits, ids in zip(said.classes.double(), said.masks.double(), targets, strict=True):
        counted = ids != IGNORE
        present = sorted(set(ids[counted].tolist()))
        masks += len(present)
        if not present:
            continue
        cost = np.zeros((QUERIES, len(present)))
        parts = {}
        for query in range(QUERIES):
            for place, label in enumerate(present):
                truth, found = (ids == label)[counted].double(), logits[query][counted]
                shares = found.sigmoid()
                of_mask = F.binary_cross_entropy_with_logits(found, truth).item()
                of_dice = 1 - ((2 * (shares * truth).sum() + 1) / (shares.sum() + truth.sum() + 1)).item()
                parts[query, place] = of_mask, of_dice
                cost[query, place] = 5 * of_mask + 5 * of_dice - 2 * classes[query].softmax(-1)[label].item()
        wanted = dict(zip(*linear_sum_assignment(cost), strict=True))
        for query in range(QUERIES):
            label, weight = (present[wanted[query]], 1.0) if query in wanted else (CLASSES, 0.1)
            entropies -= weight * classes[query].log_softmax(-1)[label].item()
            weights += weight
        entropy += sum(parts[match][0] for match in wanted.items())
        dice += sum(parts[match][1] for match in wanted.items())
    return {
        "loss_ce": 2 * entropies / max(weights, 1e-9),
        "loss_mask": 5 * entropy / max(masks, 1),
        "loss_dice": 5 * dice / max(masks, 1),
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_lattice_of_all_pixels_is_every_pixel_that_counts(seed: int) -> None:
    said, targets = prediction(seed=seed), target(seed=seed)
    if seed == 1:
        targets[0] = IGNORE  # nothing is known of this image, not even that its queries show nothing
    if seed == 2:
        targets[1] = targets[1].where(targets[1] != 0, 1)
    found = LOSSES.at_lattice(said, targets)
    assert {name: float(loss) for name, loss in found.items()} == pytest.approx(by_hand(said, targets), rel=1e-5)


def test_what_lies_under_ignored_pixels_gets_no_gradient() -> None:
    said, targets = prediction(), target()
    targets[:, :, WIDTH // 2 :] = IGNORE
    masks = said.masks.clone().requires_grad_()
    torch.manual_seed(0)
    losses = LOSSES([MaskPrediction(said.classes, masks)] * 2, targets)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert (masks.grad[..., WIDTH // 2 + 1 :] == 0).all()
    assert masks.grad[..., : WIDTH // 2].abs().sum() > 0


def test_uncertain_points_lie_where_masks_are_near_zero_and_pixels_count() -> None:
    targets = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.long)
    targets[:, :, WIDTH // 2 :] = IGNORE
    masks = torch.arange(WIDTH).expand(1, HEIGHT, WIDTH).float() - 3.5  # 0 between columns 3 and 4
    masks[:, :, WIDTH // 2 + 1 :] = 0  # and where nothing counts
    torch.manual_seed(0)
    points = LOSSES._points(masks, targets, torch.zeros(1, dtype=torch.long))[0]
    assert points.shape == (HEIGHT * WIDTH, 2)
    uncertain, rest = points.split([HEIGHT * WIDTH * 3 // 4, HEIGHT * WIDTH // 4])
    assert (uncertain[:, 0] * WIDTH < WIDTH // 2 + 1e-3).all()
    assert ((uncertain[:, 0] * WIDTH - 4).abs() < 3).float().mean() > 0.9
    assert (rest[:, 0] > 0.6).any()


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_points_may_all_be_random_or_all_uncertain(ratio: float) -> None:
    losses = MaskLosses(CLASSES, IGNORE, num_points=10, importance_sample_ratio=ratio)
    found = losses([prediction()], target())
    assert list(found) == ["loss_ce", "loss_mask", "loss_dice"]
    assert all(loss.isfinite() for loss in found.values())


def test_a_label_is_what_bilinear_sampling_of_its_mask_gives() -> None:
    targets = torch.randint(0, CLASSES, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    images, classes = torch.tensor([2, 0, 2, 1]), torch.tensor([0, 1, 2, 3])
    points = torch.rand(4, 500, 2, generator=torch.Generator().manual_seed(1))
    found, counts = Neighbours.of(targets, images, points).labels(classes[:, None], IGNORE)
    masks = (targets[images] == classes[:, None, None]).float()
    torch.testing.assert_close(found, at_points(masks[:, None], points)[:, 0], rtol=0, atol=1e-6)
    assert (counts == 1).all()
    targets[0, :, 5:] = IGNORE
    found, counts = Neighbours.of(targets, torch.zeros(1, dtype=torch.long), points[:1]).labels(
        targets[0, :1, :1], IGNORE
    )
    ignored = points[0, :, 0] * WIDTH > 5
    assert torch.equal(counts[0] == 0, ignored)
    assert (found[0][ignored] == 0).all()


def test_a_single_row_of_points_fits_a_flat_image() -> None:
    said = MaskPrediction(prediction(1).classes, prediction(1).masks[..., :1, :])
    found = MaskLosses(CLASSES, IGNORE, num_points=WIDTH).at_lattice(said, target(1)[:, :1])
    assert {name: float(loss) for name, loss in found.items()} == pytest.approx(
        by_hand(said, target(1)[:, :1]), rel=1e-5
    )


def test_more_classes_than_queries_leave_the_worst_out() -> None:
    said = MaskPrediction(prediction().classes[:, :2], prediction().masks[:, :2])
    assert all(loss.isfinite() and loss > 0 for loss in LOSSES([said], target()).values())


def test_loss_weight_is_a_factor_of_all() -> None:
    double = MaskLosses(CLASSES, IGNORE, num_points=HEIGHT * WIDTH, loss_weight=2.0)
    one, two = (losses.at_lattice(prediction(), target()) for losses in (LOSSES, double))
    assert all(torch.equal(2 * one[name], two[name]) for name in one)


def of_rank(rank: int) -> dict[str, Tensor]:
    """In the first process, 4 masks in each of two images; in the second, 2 in each."""
    targets = target().clamp(max=CLASSES - 1) % (4 if rank == 0 else 2)
    torch.manual_seed(rank)
    return LOSSES([prediction(seed=rank)], targets)


def _save_losses(rank: int, folder: Path) -> None:
    torch.save(of_rank(rank), folder / f"{rank}.pt")


def test_masks_are_counted_over_all_processes(tmp_path: Path) -> None:
    """As published: each loss is divided by the mean over processes, which is 6 masks here."""
    run_processes(2, _save_losses, tmp_path)
    for rank, own in ((0, 8), (1, 4)):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, loss in of_rank(rank).items():
            factor = 1 if name == "loss_ce" else own / 6
            assert float(found[name]) == pytest.approx(float(loss) * factor, rel=1e-5), name
