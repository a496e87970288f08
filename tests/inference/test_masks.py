"""Scores of masks against Σ p σ of whole arrays."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.inference import Augmented, SlidingWindow, Whole, kernel
from lightning_seg.inference.kernel import JustInTime
from lightning_seg.inference.whole import label_maps, plain_scores, probability_bands, upsampled_label_map
from lightning_seg.structures import MaskScores, Placement
from tests.inference.networks import assert_compiled, picture

Size = tuple[int, int]


def scores_of(queries: int, classes: int, h: int, w: int, stride: int, seed: int = 0) -> MaskScores:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (2 * torch.randn(queries, classes + 1, generator=generator)).softmax(-1)[:, :-1]
    return MaskScores(probabilities, 4 * torch.randn(queries, h, w, generator=generator), stride)


def whole(scores: MaskScores, place: Placement, output: Size) -> Tensor:
    """(K, height, width), with all masks at once: upsampled, cut out, resized, σ, Σ."""
    full = F.interpolate(scores.masks[None], scale_factor=scores.stride, mode="bilinear", align_corners=False)
    full = full[..., place.top : place.top + place.height, place.left : place.left + place.width]
    full = F.interpolate(full, size=output, mode="bilinear", align_corners=False)[0]
    full = full.flip([axis + 1 for axis, turned in enumerate(place[4:]) if turned])
    return torch.einsum("qk,qhw->khw", scores.probabilities, full.sigmoid())


def assert_best(labels: Tensor, full: Tensor) -> None:
    """The best class of every pixel, except where the two best differ by less than 1e-5."""
    chosen = full.gather(0, labels.long()[None])[0]
    assert (full.amax(0) - chosen).max() <= 1e-5


def test_labels_and_probabilities_are_those_of_whole_arrays_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._BAND_BYTES", (1, 1))  # the shallowest bands
    monkeypatch.setattr("lightning_seg.inference.whole._PROBABILITY_BYTES", (1, 1))
    monkeypatch.setattr(kernel, "_PIECE", (1000, 1000))
    draw = random.Random(0)
    for seed in range(40):
        stride, h, w = draw.choice([1, 2, 3, 4, 8, 16]), draw.randint(1, 20), draw.randint(1, 20)
        scores = scores_of(draw.choice([1, 5, 30]), draw.choice([1, 2, 19]), h, w, stride, seed)
        top, left = draw.randrange(h * stride), draw.randrange(w * stride)
        height, width = draw.randint(1, h * stride - top), draw.randint(1, w * stride - left)
        place = Placement(top, left, height, width, draw.random() < 0.5, draw.random() < 0.5)
        size = (h * stride, w * stride)
        output = draw.choice([(height, width), (draw.randint(1, 150), draw.randint(1, 150))])
        expected = whole(scores, place, output)
        assert_best(label_maps([scores], [size], [output], placements=[place])[0], expected)
        found = torch.cat([band for _, band in probability_bands(scores, size, output, place)], 1)
        torch.testing.assert_close(found.sum(0), torch.ones(output))
        torch.testing.assert_close(found, expected / expected.sum(0), rtol=1e-4, atol=1e-5)
        assert_best(upsampled_label_map(scores, size), whole(scores, Placement(0, 0, *size), size))
        torch.testing.assert_close(plain_scores(scores), whole(scores, Placement(0, 0, *size), size))


def test_masks_that_cover_nothing_leave_all_classes_alike() -> None:
    scores = MaskScores(torch.full((3, 4), 0.2), torch.full((3, 2, 2), -200.0), 4)
    ((_, found),) = probability_bands(scores, (8, 8), (8, 8))
    assert torch.equal(found, torch.full((4, 8, 8), 0.25))
    assert (label_maps([scores], [(8, 8)], [(8, 8)])[0] == 0).all()


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16)])
def test_ids_fit_the_smallest_type_whatever_the_masks_are_stored_in(classes: int, dtype: torch.dtype) -> None:
    probabilities = torch.zeros(2, classes, dtype=torch.bfloat16)
    probabilities[:, -1] = 1
    labels = label_maps([MaskScores(probabilities, torch.zeros(2, 2, 2, dtype=torch.bfloat16), 4)], [(8, 8)], [(9, 9)])[
        0
    ]
    assert labels.dtype == dtype
    assert labels.unique().tolist() == [classes - 1]


@pytest.mark.runs
def test_compiled_or_not_and_on_any_number_of_threads_to_the_bit() -> None:
    compiled, plain = JustInTime(threshold=0), JustInTime()
    before = torch.get_num_threads()
    for h, w, output in ((64, 96, (256, 384)), (40, 77, (333, 500)), (50, 60, (111, 97))):
        scores = scores_of(30, 19, h, w, 4)
        maps = [label_maps([scores], [(4 * h, 4 * w)], [output], form)[0] for form in (compiled, plain)]
        try:
            torch.set_num_threads(2)
            maps.append(label_maps([scores], [(4 * h, 4 * w)], [output], plain)[0])
        finally:
            torch.set_num_threads(before)
        assert torch.equal(maps[0], maps[1])
        assert torch.equal(maps[2], maps[1])
    assert plain.work == sum(
        (30 + 19) // 8 * height * width * 2 for height, width in ((256, 384), (333, 500), (111, 97))
    )
    assert_compiled(compiled)


def ask(batch: Any) -> Any:
    """Masks that follow the image, at stride 4."""
    scores = []
    for sample in batch:
        height, width = sample["image"].shape[-2:]
        padded = F.pad(sample["image"].float(), (0, -width % 4, 0, -height % 4)) / 32 - 4
        masks = F.avg_pool2d(padded, 4)[[0, 1, 2, 0, 1]] * torch.tensor([1.0, -1, 1, -1, 0.5])[:, None, None]
        scores.append(MaskScores((3 * torch.eye(5)).softmax(-1)[:, :-1], 8 * masks, 4))
    sizes = [tuple(sample["image"].shape[1:]) for sample in batch]
    return SimpleNamespace(scores=scores, input_sizes=sizes, losses=[{} for _ in batch])


@pytest.mark.parametrize(
    "way", [Whole(), SlidingWindow((24, 32), 0.5), Augmented([1.0, 0.5]), Augmented([1.0], of=SlidingWindow((24, 32)))]
)
def test_windows_and_views_take_masks(way: Any) -> None:
    sample: Any = {"image": picture(40, 64), "height": 55, "width": 33}
    (labels,), _ = way.evaluate(ask, [sample])
    (found,) = way.probabilities(ask, [sample])
    torch.testing.assert_close(found.sum(0), torch.ones(55, 33))
    assert_best(labels, found)
    assert len(labels.unique()) > 1


def test_overlapping_windows_of_a_constant_network_are_the_whole() -> None:
    """Each window gives normalised scores, so that their blend is theirs where windows say the same."""
    scores = scores_of(5, 4, 1, 1, 1)

    def constant(batch: Any) -> Any:
        sizes = [tuple(sample["image"].shape[1:]) for sample in batch]
        masks = [scores.masks.expand(-1, *(-(-side // 4) for side in size)) for size in sizes]
        found = [MaskScores(scores.probabilities, mask, 4) for mask in masks]
        return SimpleNamespace(scores=found, input_sizes=sizes, losses=[{} for _ in sizes])

    sample: Any = {"image": picture(40, 64)}
    windows, once = (way.probabilities(constant, [sample])[0] for way in (SlidingWindow((24, 32), 0.5), Whole()))
    torch.testing.assert_close(windows, once)
