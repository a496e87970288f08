"""Transforms that fail on images of some sizes say which, before the run where headers tell, else with the image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest

from lightning_seg.cli import main
from lightning_seg.data import Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.reading import ReadingRules
from lightning_seg.data.surveying.sizes import refuse_misfits
from lightning_seg.data.transforms import Transform
from lightning_seg.data.transforms.splits import transforms_of
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample
from tests.conftest import CLASSES, write_pair


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Four of 60×50 pixels (width × height), one of 30×50, one of 60×20, and one that is no image."""
    found = []
    for index, (height, width) in enumerate([(50, 60)] * 4 + [(50, 30), (20, 60)]):
        write_pair(tmp_path, str(index), np.zeros((height, width), np.uint8))
        found.append(Sample(str(index), tmp_path / "images" / f"{index}.jpg"))
    (tmp_path / "images/broken.jpg").write_bytes(b"")
    return [*found, Sample("broken", tmp_path / "images/broken.jpg")]


def look(samples: list[Sample], transforms: list[Transform], **settings: Any) -> None:
    refuse_misfits(samples, transforms_of("train", transforms, [], 255), **settings)


def test_all_misfits_are_named(samples: list[Sample]) -> None:
    look(samples, [A.RandomCrop(20, 30), A.HorizontalFlip()])
    look(samples, [A.PadIfNeeded(40, 40), A.RandomCrop(40, 40)])
    look(samples, [A.RandomCrop(40, 40, pad_if_needed=True)])
    look(samples, [RandomScaleCrop(400, 400), A.RandomCrop(400, 400)])
    with pytest.raises(DataError) as caught:
        look(samples, [A.HorizontalFlip(), A.RandomCrop(40, 40)])
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        f"data.train_transforms: RandomCrop fails on image {samples[5].image} (60×20 pixels) (CropSizeError: Crop size"
    )
    assert first.endswith(": set its pad_if_needed to true, choose a smaller crop, or leave the image out")
    assert second == (f"Transforms fail on 2 of 6 images: {samples[5].image} (60×20), {samples[4].image} (30×50)")


class NeedsWidth(A.ImageOnlyTransform):
    """A user's own."""

    def apply(self, img: Any, *args: Any, **params: Any) -> Any:
        if img.shape[1] < 50:
            raise ValueError("too narrow\nfor me")
        return img


def test_what_fails_now_and_then_and_what_is_the_users(samples: list[Sample]) -> None:
    with pytest.raises(
        DataError, match=r"NeedsWidth fails on image .* \(ValueError: too narrow\): change its arguments"
    ):
        look(samples, [A.OneOf([A.NoOp(), A.Sequential([NeedsWidth(p=1)], p=1)], p=1)])


def test_time_is_limited(samples: list[Sample]) -> None:
    look(samples, [A.RandomCrop(400, 400)], seconds=0)


def test_transforms_of_evaluation_are_followed(samples: list[Sample]) -> None:
    refuse_misfits(samples, transforms_of("val", [], [A.CenterCrop(50, 60, pad_if_needed=True)], 255))
    with pytest.raises(DataError, match=r"CenterCrop cuts off .*\nTransforms fail on 5 of 6 images"):
        refuse_misfits(samples, transforms_of("val", [], [A.CenterCrop(50, 50, pad_if_needed=True)], 255))


def test_an_image_of_too_many_pixels_is_left_to_its_reader(samples: list[Sample]) -> None:
    """One such image does not end a prediction of others; and what data.max_pixels allows is looked at."""
    look(samples, [A.HorizontalFlip()], rules=ReadingRules(max_pixels=2000))
    with pytest.raises(DataError, match=r"Transforms fail on 1 of 2 images: .*5\.jpg \(60×20\)"):
        look(samples, [A.RandomCrop(30, 30)], rules=ReadingRules(max_pixels=2000))


def test_a_sample_that_does_not_fit_is_named_in_the_run(samples: list[Sample], tmp_path: Path) -> None:
    samples[6].image.unlink()
    data = SegmentationDataModule(
        CLASSES, Folder("images", "masks"), root=str(tmp_path), num_workers=0, train_transforms=[A.RandomCrop(40, 40)]
    )
    data.setup("fit")
    with pytest.raises(DataError, match=r"^data.train_transforms: RandomCrop fails on image .*4\.jpg \(30×50 pixels\)"):
        data.datasets["train"][4]


def test_on_the_command_line(
    experiment: Callable[..., Path], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crop = {"class_path": "albumentations.RandomCrop", "init_args": {"height": 48, "width": 48}}
    for index in range(2):
        mask = np.arange(len(CLASSES), dtype=np.uint8).repeat(8)[:, None].repeat(64 - 32 * index, axis=1)
        write_pair(tmp_path / "some", str(index), mask)
    reader = {"class_path": "lightning_seg.data.Folder", "init_args": {"images": "images", "masks": "masks"}}
    config = experiment(root=str(tmp_path / "some"), train=reader, val=None, train_transforms=[crop])
    for dry in ([], ["--dry_run"]):
        with pytest.raises(SystemExit):
            main(["fit", "--config", str(config), *dry])
        error = capsys.readouterr().err
        assert f"Transforms fail on 1 of 2 images: {tmp_path}/some/images/1.jpg (32×48)" in error
        assert "Traceback" not in error
    assert not list((tmp_path / "runs").glob("**/*.ckpt"))
