"""Pictures of images of any bands."""

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.callbacks.access import stored_image
from lightning_seg.colours import default_palette
from lightning_seg.data import Folder, SegmentationDataModule
from lightning_seg.data.auditing.pictures import picture
from lightning_seg.data.reading import USUAL, ReadingRules, as_shown
from lightning_seg.predictions import overlay
from lightning_seg.structures import DatasetInfo, Sample
from lightning_seg.trained.result import Result

RNG = np.random.default_rng(0)
INFO = DatasetInfo(("ground", "water"), 255, default_palette(2))


def stretched(plane: np.ndarray) -> np.ndarray:
    """By its definition, pixel by pixel in float64."""
    seen = np.sort(plane[np.isfinite(plane)].astype(np.float64))
    places = np.arange(len(seen)) / (len(seen) - 1)
    low, high = np.interp([0.02, 0.98], places, seen)
    with np.errstate(invalid="ignore"):
        values = np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1)
    return np.nan_to_num(255 * values)


def test_rgb_is_the_same_bytes() -> None:
    image = RNG.integers(0, 50, (20, 30, 3), np.uint8)
    assert as_shown(image, USUAL) is image


@pytest.mark.parametrize(
    ("rules", "channels", "shown"),
    [
        (ReadingRules(bands=(4, 3, 2, 8)), 4, [0, 1, 2]),
        (ReadingRules(bands=(4, 3, 2, 8), display_bands=(8, 4, 2)), 4, [3, 0, 2]),
        (ReadingRules(bands=(4, 3, 2, 8), display_bands=(3,)), 4, [1, 1, 1]),
        (ReadingRules(bands=(2, 1)), 2, [0, 0, 0]),
        (ReadingRules(bands=(7,)), 1, [0, 0, 0]),
        (USUAL, 5, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_bands_are_stretched_between_percentiles(
    rules: ReadingRules, channels: int, shown: list[int], dtype: str
) -> None:
    values = RNG.normal(120, 30, (31, 47, channels)) * ([1] * channels if dtype == "uint8" else range(3, channels + 3))
    image = values.clip(0, 250 if dtype == "uint8" else 3000).astype(dtype)
    if dtype == "float32":
        image[3, 4:9] = np.nan
        image[5, 4] = np.inf
    picture = as_shown(image, rules)
    assert picture.dtype == np.uint8
    expected = np.stack([stretched(image[..., place]) for place in shown], axis=2)
    finite = np.isfinite(image).all(axis=2)
    assert np.abs(picture[finite] - expected[finite]).max() <= 0.51
    assert (picture[3, 4:9] == 0).all() or dtype != "float32"


def test_nothing_to_stretch_is_black() -> None:
    rules = ReadingRules(bands=(1, 2, 3))
    for image in (np.full((4, 5, 3), 900, np.uint16), np.full((4, 5, 3), np.nan, np.float32)):
        assert not as_shown(image, rules).any()
    assert as_shown(np.zeros((0, 5, 3), np.float32), rules).shape == (0, 5, 3)


def test_large_images_are_looked_at_in_part() -> None:
    image = np.add.outer(np.arange(3000), np.arange(3000)).astype(np.float32)[..., None]
    picture = as_shown(image, ReadingRules(bands=(1,)))
    assert np.abs(picture[::50, ::50, 0] - stretched(image[..., 0])[::50, ::50]).max() < 1.5


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[], Sample]:
    """A 4-band uint16 image and its mask of two classes."""

    def write() -> Sample:
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
        ramp = np.add.outer(np.arange(30), np.arange(40))[..., None] * [10, 30, -25, 40]  # which a JPEG keeps
        pixels = (2000 + ramp).astype(np.uint16)
        np.save(tmp_path / "images/a.npy", pixels)
        Image.fromarray(np.repeat(np.uint8([[0, 1]]), 20, axis=1).repeat(30, axis=0)).save(tmp_path / "masks/a.png")
        return Sample("a", tmp_path / "images/a.npy", tmp_path / "masks/a.png")

    return write


def test_all_pictures_show_the_bands_that_are_to_be_shown(scene: Callable[[], Sample], tmp_path: Path) -> None:
    """Of a callback, of the audit and of a result: the same pixels."""
    sample = scene()
    pixels = np.load(str(sample.image))
    folder = Folder("images", "masks", image_suffixes=[".npy"])
    data = SegmentationDataModule(
        list(INFO.names), train=folder, val=folder, root=str(tmp_path), bands=[1, 2, 3, 4], display_bands=[4, 1, 2],
        num_workers=0,
    )  # fmt: skip
    data.setup("validate")
    expected = as_shown(pixels, ReadingRules(bands=(1, 2, 3, 4), display_bands=(4, 1, 2)))
    item = data.datasets["val"][0]
    stage = SimpleNamespace(dataloader_prefix="val")
    trainer: Any = SimpleNamespace(datamodule=data, state=SimpleNamespace(stage=stage))
    assert np.array_equal(stored_image(trainer, item, (30, 40)), expected)
    del item["position"]  # as of a loader of the user's own
    assert np.array_equal(stored_image(trainer, item, (30, 40)), expected)
    trainer.datamodule = None
    assert stored_image(trainer, {"image": torch.zeros(5, 30, 40)}, (30, 40)).shape == (30, 40, 3)

    result = Result("a", pixels, np.zeros((30, 40), np.uint8), INFO, lambda: np.zeros(0, np.float32), rules=data.rules)
    assert np.array_equal(np.asarray(result.overlay()), overlay(expected, result.mask, INFO))
    assert np.array_equal(result.image, pixels)
    jpeg = Image.open(BytesIO(result.encoded("overlays")))
    assert np.abs(np.asarray(jpeg, int) - np.asarray(result.overlay())).mean() < 3

    for width in (2 * 40, 40 + 20):  # the second time, the mask does not fit, and is shown as it is
        drawn = picture(sample, data.datasets["val"].tables[0], data.rules)
        assert drawn is not None
        panels = np.asarray(Image.open(BytesIO(base64.b64decode(drawn.partition(",")[2]))))
        assert panels.shape == (120, 120 * width // 30, 3)
        assert np.abs(panels[::4, :160:4].astype(int) - expected).mean() < 6
        Image.new("RGB", (20, 30), (90, 90, 90)).save(str(sample.mask))
