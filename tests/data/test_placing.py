"""Evaluation finds back from padded, resized and mirrored images to the stored pixels; all else is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from albumentations.core.type_definitions import Targets
from PIL import Image
from torch.nn import functional as F

from lightning_seg.data import Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.transforms import Placements, Transform, build_pipeline
from lightning_seg.errors import DataError
from lightning_seg.models.segmentor import Evaluation
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch, DenseScores, Placement
from tests.conftest import TINY_OVERRIDES

HEIGHT, WIDTH, CLASSES = 48, 64, 5
GREY = 50
"""Times the class: what the images show."""


def place(transforms: list[Transform], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Placement | None:
    return Placements(build_pipeline(transforms, 255).transforms).of(size, Path("a.png"))


def larger(size: int) -> A.LongestMaxSize:
    return A.LongestMaxSize(size, interpolation=cv2.INTER_NEAREST)


class Letterbox(A.DualTransform):
    """A user's own: scales to a width and pads below."""

    _targets = (Targets.IMAGE, Targets.MASK)

    def _scaled(self, image: Any, flag: int, fill: int) -> Any:
        height, width = image.shape[:2]
        scaled = cv2.resize(image, (128, round(height * 128 / width)), interpolation=flag)
        padding = ((0, 128 - len(scaled)), (0, 0), (0, 0))[: image.ndim]
        return np.pad(scaled, padding, constant_values=fill)

    def apply(self, img: Any, *args: Any, **params: Any) -> Any:
        return self._scaled(img, cv2.INTER_LINEAR, 0)

    def apply_to_mask(self, mask: Any, *args: Any, **params: Any) -> Any:
        return self._scaled(mask, cv2.INTER_NEAREST_EXACT, 255)


PLACED = [
    ([], None),
    ([A.Blur(p=0.5), A.CLAHE(), A.Lambda(image=lambda image, **_: 255 - image)], None),
    ([A.Resize(480, 640), A.Resize(17, 23, interpolation=3)], None),
    ([A.HorizontalFlip(p=1), A.HorizontalFlip(p=1)], None),
    ([A.HorizontalFlip(p=0), A.RandomCrop(HEIGHT, WIDTH), A.PadIfNeeded(HEIGHT, WIDTH)], None),
    ([A.OneOf([A.Blur(), A.CLAHE()])], None),
    ([larger(128), A.PadIfNeeded(128, 160)], Placement(16, 16, 96, 128)),
    ([A.SmallestMaxSize(37), A.PadIfNeeded(None, None, 32, 32)], Placement(13, 7, 37, 49)),
    ([A.PadIfNeeded(100, 100, position="top_left", border_mode=cv2.BORDER_REFLECT)], Placement(0, 0, 48, 64)),
    ([A.PadIfNeeded(100, 100, fill=(124, 116, 104))], Placement(26, 18, 48, 64)),
    ([A.PadIfNeeded(96, 128), A.CenterCrop(60, 70)], Placement(6, 3, 48, 64)),
    ([A.PadIfNeeded(100, 100), A.Resize(50, 50)], Placement(13, 9, 24, 32)),
    ([A.CenterCrop(80, 80, pad_if_needed=True)], Placement(16, 8, 48, 64)),
    ([A.HorizontalFlip(p=1), A.Pad((1, 2, 3, 4)), A.VerticalFlip(p=1)], Placement(4, 1, 48, 64, True, True)),
    ([A.Sequential([larger(32), A.PadIfNeeded(64, 64)], p=1)], Placement(20, 16, 24, 32)),
    ([A.ReplayCompose([larger(32), A.PadIfNeeded(64, 64)])], Placement(20, 16, 24, 32)),
    ([RandomScaleCrop(96, 96, scale_limits=(0.5, 0.5))], Placement(36, 32, 24, 32)),
    ([Letterbox(p=1)], Placement(0, 0, 96, 128)),
]


@pytest.mark.parametrize(("transforms", "expected"), PLACED)
def test_where_the_stored_image_is(transforms: list[Transform], expected: Placement | None) -> None:
    assert place(transforms) == expected


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (37, 91), (1031, 517)])
def test_at_any_size(size: tuple[int, int]) -> None:
    height, width = size
    longest = max(size)
    expected = Placement(*((2000 - side) // 2 for side in size), height, width, False, True)
    found = place([A.PadIfNeeded(2000, 2000, border_mode=cv2.BORDER_CONSTANT), A.HorizontalFlip(p=1)], size)
    assert found is not None
    assert abs(found.left - expected.left) <= 1  # what is odd may be on either side
    assert found[2:4] == expected[2:4]
    assert found.mirrored or width == 1
    scaled = place([A.LongestMaxSize(300), A.PadIfNeeded(300, 300, position="bottom_right")], size)
    rows, columns = (max(1, round(side * 300 / longest)) for side in size)
    assert scaled == (None if height == width else Placement(300 - rows, 300 - columns, rows, columns))


class Transposed(A.DualTransform):
    _targets = (Targets.IMAGE, Targets.MASK)

    def apply(self, img: Any, *args: Any, **params: Any) -> Any:
        return np.ascontiguousarray(img.swapaxes(0, 1))


REFUSED: list[tuple[list[Transform], str]] = [
    ([A.CenterCrop(40, 40)], "CenterCrop cuts off a part of image a.png .64×48 pixels.*LongestMaxSize, then PadIfN"),
    ([A.Resize(32, 32), A.CenterCrop(31, 32)], "CenterCrop cuts off a part"),
    ([A.CropAndPad(px=-1, keep_size=False, p=1)], "CropAndPad cuts off a part"),
    (
        [A.HorizontalFlip()],
        "HorizontalFlip draws where the pixels of image a.png .* go.*set its p to 1, or leave it out",
    ),
    ([A.Sequential([larger(32), A.PadIfNeeded(64, 64)])], "Sequential draws where .*: set its p to 1"),
    ([A.RandomCrop(32, 32)], "RandomCrop draws where .* always the same way: leave it out"),
    ([A.PadIfNeeded(100, 100, position="random")], "PadIfNeeded draws where"),
    ([A.OneOf([A.Blur(), A.HorizontalFlip(p=1)], p=1)], "OneOf draws where"),
    ([A.RandomRotate90(p=1)], "RandomRotate90 draws where"),
    ([Transposed(p=1)], "Transposed moves .* in another way than by resizing, padding or a flip: .*leave it out"),
    ([A.Affine(rotate=(10, 10), p=1)], "Affine moves the pixels"),
    ([A.GridDistortion(p=1)], "GridDistortion (moves|draws)"),
    ([A.Affine(scale=(0.7, 0.7), p=1)], "Affine puts a border of image .* inside a pixel"),
    ([A.PadIfNeeded(52, 100), A.Resize(31, 50)], "Resize puts a border .* inside a pixel.*pad after all resizing"),
    ([A.CenterCrop(80, 80)], "CenterCrop fails on image a.png .*CropSizeError.*: set its pad_if_needed to true"),
]


@pytest.mark.parametrize(("transforms", "message"), REFUSED)
def test_what_has_no_way_back_is_refused(transforms: list[Transform], message: str) -> None:
    with pytest.raises(DataError, match=f"^data.eval_transforms: {message}"):
        place(transforms)


def test_transforms_stay_as_they_are() -> None:
    pipeline = build_pipeline([A.Resize(20, 30, interpolation=3), A.PadIfNeeded(40, 40, fill=7, p=0.5)], 255)
    before = repr(pipeline)
    with pytest.raises(DataError):
        Placements(pipeline.transforms).of((48, 64), Path("a.png"))
    assert repr(pipeline) == before


def perfect(batch: Batch) -> Evaluation:
    """Reads the classes off the images, at every pixel."""
    sizes = [(sample["image"].shape[1], sample["image"].shape[2]) for sample in batch]
    whole = torch.full((len(batch), *(max(side) for side in zip(*sizes, strict=True))), 0)
    for image, sample, (height, width) in zip(whole, batch, sizes, strict=True):
        image[:height, :width] = sample["image"][0].long() // GREY
    logits = F.one_hot(whole.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2).float()
    losses = {"loss": torch.zeros(())} if "sem_seg" in batch[0] else {}
    return Evaluation(DenseScores.of(logits, 1), sizes, [losses] * len(batch))


@pytest.fixture(scope="module")
def module() -> SegmentationModule:
    names = [str(index) for index in range(CLASSES)]
    module = SegmentationModule("Misc/semantic_R_50_FPN_1x.yaml", names, overrides=TINY_OVERRIDES, weights="")
    module.segmentor.evaluate = perfect  # type: ignore[method-assign]
    module._has_weights = True
    return module


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images that show their masks, two of one size; not alike when mirrored."""
    root = tmp_path_factory.mktemp("blocks")
    for index, (height, width) in enumerate([(HEIGHT, WIDTH), (HEIGHT, WIDTH), (40, 36)]):
        mask = np.random.default_rng(index).integers(0, CLASSES, (height // 4, width // 4)).astype(np.uint8)
        mask = mask.repeat(4, axis=0).repeat(4, axis=1)
        for kind, pixels in (("images", mask * GREY), ("masks", mask)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{index}.png")
    return root


@pytest.fixture
def run(module: SegmentationModule, blocks: Path, tmp_path: Path) -> Callable[..., Any]:
    """Validates or predicts the blocks with a perfect predictor."""

    def run(command: str, transforms: list[Transform]) -> Any:
        reader = Folder(images="images", masks="masks")
        data = SegmentationDataModule(
            module.class_names, val=reader, root=str(blocks), predict=str(blocks / "images"),
            eval_transforms=transforms, eval_batch_size=2, num_workers=0,
        )  # fmt: skip
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        found = getattr(trainer, command)(module, datamodule=data)
        return found if command == "predict" else float(trainer.callback_metrics["val/mIoU"])

    return run


@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [larger(128), A.PadIfNeeded(128, 128)],
        [A.PadIfNeeded(128, 128)],
        [A.PadIfNeeded(80, 80, position="bottom_right", border_mode=cv2.BORDER_REFLECT)],
        [A.HorizontalFlip(p=1)],
        [A.VerticalFlip(p=1), A.PadIfNeeded(50, 70)],
    ],
    ids=lambda transforms: "+".join(type(transform).__name__ for transform in transforms),
)
def test_a_perfect_predictor_is_perfect(transforms: list[Transform], run: Callable[..., Any], blocks: Path) -> None:
    assert run("validate", transforms) == 1.0
    maps = [found for batch in run("predict", transforms) for found in batch]
    for index, found in enumerate(maps):
        assert np.array_equal(found, np.asarray(Image.open(blocks / "masks" / f"{index}.png")))
    assert len(maps) == 3


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_refused_before_the_run_with_the_images(command: str, run: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"HorizontalFlip draws .*\nTransforms fail on 3 of 3 images") as caught:
        run(command, [A.HorizontalFlip()])
    assert caught.traceback[-1].name == "refuse_misfits"
    with pytest.raises(
        DataError, match=r"CenterCrop cuts off .*\nTransforms fail on 2 of 3 images: .*0\.png \(64×48\)"
    ):
        run(command, [A.CenterCrop(40, 36)])
