"""Crops that no class dominates, against Detectron2's own augmentation."""

import random

import numpy as np
import pytest
from detectron2.data.transforms import RandomCrop_CategoryAreaConstraint

from lightning_seg.data.transforms import CategoryLimitedCrop, RandomScaleCrop, build_pipeline
from lightning_seg.data.transforms.random_scale_crop import within_limit

RNG = np.random.default_rng(0)


def scene(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """Blocks of few classes, the ignore index among them: some crops show one class, some many."""
    blocks = np.random.default_rng(seed).choice([0, 1, 2, 255], (6, 8), p=[0.6, 0.1, 0.1, 0.2])
    return np.kron(blocks, np.ones((10, 10), int))[:height, :width].astype(np.uint8)


@pytest.mark.parametrize("max_fraction", [0.5, 0.75, 0.9, 1.0])
def test_draws_the_crops_that_detectron2_draws(max_fraction: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same random numbers give the same boxes, so the same ones are accepted, and the last one otherwise."""
    theirs = RandomCrop_CategoryAreaConstraint("absolute", (15, 20), max_fraction, ignored_category=255)
    attempts = set()
    for seed in range(200):
        mask = scene(seed)
        image = RNG.integers(0, 256, (*mask.shape, 3), np.uint8)
        ours = CategoryLimitedCrop(15, 20, max_fraction)
        ours.set_random_seed(seed)
        stream, drawn = random.Random(seed), []
        stream.random()  # the scale

        def randint(high: int, stream: random.Random = stream, drawn: list[int] = drawn) -> int:
            drawn.append(int(high * stream.random()))
            return drawn[-1]

        monkeypatch.setattr(np.random, "randint", randint)
        box = theirs.get_transform(image, mask)
        out = ours(image=image, mask=mask)
        assert np.array_equal(out["mask"], box.apply_segmentation(mask))
        assert np.array_equal(out["image"], box.apply_image(image))
        attempts.add(len(drawn) // 2)
    assert attempts == {1} if max_fraction == 1 else {1, 2, 10} <= attempts


def test_limit_within_a_scale() -> None:
    """Scaling first: the rule is asked of the crop that comes out, and tries do not change the scale."""
    limited = RandomScaleCrop(30, 40, max_fraction=0.75)
    free = RandomScaleCrop(30, 40)
    mask = scene(3)
    image = np.zeros((*mask.shape, 3), np.uint8)
    accepted = {True: 0, False: 0}
    for seed in range(200):
        for transform in (limited, free):
            transform.set_random_seed(seed)
        ours, other = limited(image=image, mask=mask)["mask"], free(image=image, mask=mask)["mask"]
        assert limited.params["scale"] == free.params["scale"]
        if within_limit(other, 0.75, 255):
            assert np.array_equal(ours, other)  # the first crop will do
        accepted[within_limit(ours, 0.75, 255)] += 1
    assert accepted[True] > 10 * accepted[False]


@pytest.mark.parametrize("ignore_index", [255, 11, -1])
def test_the_ignore_index_does_not_count(ignore_index: int) -> None:
    """``build_pipeline`` tells the transform: nobody writes it twice."""
    mask = np.full((20, 20), ignore_index, np.int32)
    mask[0, :2] = (0, 1)
    transform = CategoryLimitedCrop(20, 20, attempts=3)
    build_pipeline([transform], ignore_index)
    drawn = 0

    class Counting(random.Random):
        def random(self) -> float:
            nonlocal drawn
            drawn += 1
            return 0.5

    transform.set_random_state(np.random.default_rng(0), Counting())
    transform(image=np.zeros((20, 20, 3), np.uint8), mask=mask)
    assert drawn == 1 + 2  # the scale and one crop: two classes, none above three quarters


def test_small_images_are_padded() -> None:
    out = build_pipeline([CategoryLimitedCrop(30, 30, fill=7)], 255)(
        image=np.full((10, 40, 3), 50, np.uint8), mask=np.zeros((10, 40), np.uint8)
    )
    assert out["image"].shape == (30, 30, 3)
    assert (out["mask"] == 255).sum() == 20 * 30
    assert set(np.unique(out["image"])) == {7, 50}
