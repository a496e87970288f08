"""Pipelines: padding is ignored, and what is drawn depends on (seed, epoch, position) alone."""

import os
import subprocess
import sys
from collections.abc import Callable

import albumentations as A
import numpy as np
import pytest

import lightning_seg.data
from lightning_seg.data.transforms import build_pipeline, reseed
from lightning_seg.data.transforms.counterparts import COUNTERPARTS
from lightning_seg.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
MASK = np.full((20, 30), 3, np.uint8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: A.PadIfNeeded(min_height=40, min_width=40),
        lambda: A.Affine(scale=0.5, p=1.0),
        lambda: A.OneOf([A.Rotate(limit=(45, 45), p=1.0)], p=1.0),
        lambda: A.Sequential([A.Perspective(scale=(0.2, 0.3), p=1.0), A.CoarseDropout(p=1.0)], p=1.0),
    ],
)
@pytest.mark.parametrize("ignore_index", [255, 11])
def test_padding_is_ignored(make: Callable[[], A.BasicTransform], ignore_index: int) -> None:
    mask = build_pipeline([make()], ignore_index)(image=IMAGE, mask=MASK)["mask"]
    assert set(np.unique(mask)) <= {3, ignore_index}


def test_says_that_it_replaces_a_class() -> None:
    with pytest.warns(UserWarning, match=r"PadIfNeeded\(fill_mask=3.*replaced by the ignore index 255"):
        build_pipeline([A.PadIfNeeded(min_height=40, min_width=40, fill_mask=3)], 255)


def test_holes_in_the_image_keep_their_labels() -> None:
    """Unless the user asks for ignored ones: ``fill_mask`` of dropouts is None by default."""
    holes = {"num_holes_range": (9, 9), "hole_height_range": (0.2, 0.2), "hole_width_range": (0.2, 0.2), "p": 1.0}
    kept, ignored = A.CoarseDropout(**holes), A.CoarseDropout(**holes, fill_mask=255)
    assert (build_pipeline([kept], 255)(image=IMAGE, mask=MASK)["mask"] == 3).all()
    assert (build_pipeline([ignored], 11)(image=IMAGE, mask=MASK)["mask"] == 11).any()


def test_image_and_mask_may_differ_in_size() -> None:
    out = build_pipeline([A.Resize(10, 10)], 255)(image=IMAGE[::2, ::2], mask=MASK)
    assert out["image"].shape[:2] == out["mask"].shape == (10, 10)


@pytest.mark.runs
def test_albumentations_asks_no_server() -> None:
    script = "import urllib.request as r; r.urlopen = r.OpenerDirector.open = lambda *_, **__: print('asked')"
    script = f"{script}\nimport lightning_seg.data"
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_draws_depend_on_seed_epoch_and_position() -> None:
    first, second = (build_pipeline([A.RandomCrop(8, 8), A.HorizontalFlip()], 255) for _ in range(2))

    def draw(pipeline: A.Compose, *state: int) -> bytes:
        reseed(pipeline, *state)
        return bytes(pipeline(image=IMAGE, mask=MASK)["image"])

    here = draw(first, 1, 2, 3)
    for _ in range(5):
        draw(first, 9, 9, 9)
    assert draw(first, 1, 2, 3) == here == draw(second, 1, 2, 3)
    others = {draw(first, *state) for state in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2))}
    assert here not in others
    assert len(others) == 4


def test_two_flips_are_independent() -> None:
    pipeline = build_pipeline([A.HorizontalFlip(), A.VerticalFlip()], 255)
    seen = set()
    for position in range(40):
        reseed(pipeline, 0, 0, position)
        seen.add(bytes(pipeline(image=IMAGE, mask=MASK)["image"]))
    assert len(seen) == 4  # neither, one, the other, both


def test_transforms_of_other_libraries_are_refused() -> None:
    from detectron2.data import transforms as T

    with pytest.raises(
        ConfigError, match=r"RandomFlip is not of albumentations.*: take albumentations\.HorizontalFlip"
    ):
        build_pipeline([A.Blur(), T.RandomFlip()], 255)
    with pytest.raises(ConfigError, match=r"builtins\.function is not of albumentations.*derive from"):
        build_pipeline([lambda image: image], 255)


def test_every_counterpart_is_there() -> None:
    from detectron2.data import transforms as T

    for name, counterpart in COUNTERPARTS.items():
        assert hasattr(T, name)
        library = A if counterpart.startswith("albumentations.") else lightning_seg.data
        assert hasattr(library, counterpart.partition(",")[0].partition(" or ")[0].rpartition(".")[2])
