"""Transforms that spoil labels are refused by name before a run starts, all others pass."""

import inspect
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
from albumentations.core.type_definitions import Targets

from lightning_seg.cli import main
from lightning_seg.data import CategoryLimitedCrop, Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.transforms import build_pipeline, check_transforms
from lightning_seg.errors import ConfigError

Array = np.ndarray[Any, Any]

NEEDED = {
    "CenterCrop": {"height": 64, "width": 64},
    "CropAndPad": {"percent": (-0.2, 0.2)},
    "CropNonEmptyMaskIfExists": {"height": 64, "width": 64},
    "GridElasticDeform": {"num_grid_xy": (4, 4), "magnitude": 10},
    "LongestMaxSize": {"max_size": 200},
    "RandomCrop": {"height": 64, "width": 64},
    "RandomResizedCrop": {"size": (70, 90)},
    "RandomSizedCrop": {"min_max_height": (40, 80), "size": (64, 64)},
    "Resize": {"height": 70, "width": 100},
    "SmallestMaxSize": {"max_size": 70},
    "AtLeastOneBBoxRandomCrop": {"height": 64, "width": 64},
    "RandomSizedBBoxSafeCrop": {"height": 64, "width": 64},
    "TextImage": {"font_path": "font.ttf"},
}
"""Arguments of transforms that have no defaults."""

FAULTS = {
    **dict.fromkeys(
        ["Normalize", "ToFloat", "FromFloat", "ToTensorV2"], "returns a .* the model subtracts MODEL.PIXEL_MEAN"
    ),
    **dict.fromkeys(["FDA", "HistogramMatching", "PixelDistributionAdaptation"], r"needs \w+_metadata.*leave it out"),
    **dict.fromkeys(["Mosaic", "OverlayElements", "TextImage"], r"needs \w+_metadata.*leave it out"),
    "RandomCropNearBBox": "needs cropping_bbox.*leave it out",
    **dict.fromkeys(["BBoxSafeRandomCrop", "RandomSizedBBoxSafeCrop"], "fails on an image.*'bboxes'"),
    "GridElasticDeform": "fills the mask with 0, which is taken for a class; the ignore index is 255",
}
"""Of albumentations' transforms: what each that cannot be used is refused with."""

TRANSFORMS = [
    name
    for name, transform in vars(A).items()
    if inspect.isclass(transform)
    and issubclass(transform, A.BasicTransform)
    and (Targets.IMAGE in np.atleast_1d(getattr(transform, "_targets", ())))
    and transform not in (A.ImageOnlyTransform, A.CubicSymmetry)  # the latter says image, and is for volumes
]


UINT8, INT32 = np.dtype(np.uint8), np.dtype(np.int32)


def check(
    transform: A.BasicTransform | A.BaseCompose, ignore_index: int = 255, dtype: np.dtype[Any] | None = None
) -> None:
    pipeline = build_pipeline([deepcopy(transform)], ignore_index)  # which sets its fill_mask
    dtype = dtype or (UINT8 if ignore_index >= 0 else INT32)
    check_transforms(pipeline, ignore_index, dtype, "data.train_transforms")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_of_albumentations(name: str) -> None:
    transform = getattr(A, name)(**NEEDED.get(name, {}))
    if name not in FAULTS:
        check(transform)
        return
    with pytest.raises(ConfigError, match=f"^data.train_transforms: {name} {FAULTS[name]}"):
        check(transform)


def test_the_list_is_that_of_albumentations() -> None:
    assert len(TRANSFORMS) > 90
    assert NEEDED.keys() | FAULTS.keys() <= set(TRANSFORMS)


def colours_only(image: Array, **_: Any) -> Array:
    return cv2.applyColorMap(image, cv2.COLORMAP_HSV)


class Darker(A.ImageOnlyTransform):
    """A user's own colours and noise."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"noise": self.random_generator.normal(0, 40, params["shape"])}

    def apply(self, img: Array, *args: Any, noise: Array, **params: Any) -> Array:
        return (img * 0.5 + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("ignore_index", [255, 11, 3, -1])
@pytest.mark.parametrize(
    "transform",
    [
        A.Affine(scale=(0.5, 2), rotate=(-45, 45), translate_percent=(-0.3, 0.3), shear=(-20, 20)),
        A.Affine(scale=(0.1, 0.2)),
        A.ElasticTransform(alpha=300, sigma=20),
        A.GridDistortion(distort_limit=(-0.9, 0.9)),
        A.Perspective(scale=(0.3, 0.4)),
        A.SafeRotate(limit=(-90, 90)),
        A.RandomResizedCrop((64, 64), scale=(0.01, 0.02)),
        A.RandomGridShuffle((8, 8)),
        A.CoarseDropout(num_holes_range=(8, 12), hole_height_range=(0.2, 0.3), hole_width_range=(0.2, 0.3)),
        A.CoarseDropout(num_holes_range=(8, 12), fill="random", fill_mask=255),
        A.GridDropout(ratio=0.7),
        A.PixelDropout(dropout_prob=0.6),
        A.ImageCompression(quality_range=(1, 3)),
        A.Downscale(scale_range=(0.05, 0.1)),
        A.GaussianBlur(blur_limit=(95, 101)),
        A.GaussNoise(std_range=(0.8, 1.0)),
        A.ColorJitter(0.9, 0.9, 0.9, 0.5),
        A.RandomCrop(512, 1024),
        A.Crop(x_min=1000, y_min=1500, x_max=2500, y_max=2500),
        A.PadIfNeeded(1000, 1200),
        A.RandomCrop(8, 8),
        A.OneOf([A.Sequential([A.Rotate(), A.HorizontalFlip()]), A.SomeOf([A.Transpose(), A.Blur()], n=1)]),
        A.ReplayCompose([A.HorizontalFlip(), A.ReplayCompose([A.RandomCrop(48, 64)])]),
        RandomScaleCrop(512, 1024),
        CategoryLimitedCrop(200, 300),
        A.Lambda(image=colours_only),
        Darker(),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_what_leaves_labels_right_passes(transform: A.BasicTransform, ignore_index: int) -> None:
    check(transform, ignore_index)


class ImageShift(A.ImageOnlyTransform):
    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        return np.roll(img, self.py_random.randint(-20, 20), axis=1)


class ImageFlip(A.ImageOnlyTransform):
    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        return np.ascontiguousarray(img[:, ::-1])


class OwnNumbers(A.DualTransform):
    """Image and mask each draw a crop of their own."""

    _targets = (Targets.IMAGE, Targets.MASK)

    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        top, left = self.py_random.randint(0, 32), self.py_random.randint(0, 32)
        return img[top : top + 64, left : left + 64]


class SometimesFlipped(OwnNumbers):
    """Right in half of the draws."""

    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        return img[:, ::-1] if self.py_random.random() < 0.5 else img


def turned(image: Array, **_: Any) -> Array:
    turn = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), 15, 1)
    return cv2.warpAffine(image, turn, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def padded(mask: Array, **_: Any) -> Array:
    return np.pad(mask, 8, constant_values=1)[8:-8, 4:-12]


@pytest.mark.parametrize(
    ("transform", "fault"),
    [
        (ImageShift(p=0.01), "ImageShift moves the image without its mask"),
        (ImageFlip(), "ImageFlip moves the image without its mask"),
        (OwnNumbers(), "OwnNumbers moves .* or not alike: what moves pixels must be a DualTransform"),
        (SometimesFlipped(), "SometimesFlipped moves"),
        (A.Lambda(image=turned), "Lambda moves the image without its mask"),
        (A.OneOf([A.NoOp(), A.Sequential([ImageFlip()])]), "ImageFlip moves"),
        (A.Lambda(image=lambda image, **_: image[:50]), r"shape \(50, 131, 3\) and a mask of shape \(97, 131\)"),
        (A.Lambda(mask=padded), "Lambda fills the mask with 1, which is taken for a class"),
        (A.Lambda(mask=lambda mask, **_: mask / 255), "returns a float64 mask"),
        (A.ToGray(num_output_channels=1), r"ToGray returns an image of shape \(97, 131\)"),
        (A.Affine(rotate=(30, 40), mask_interpolation=1), "Affine has mask_interpolation: 1, which mixes"),
        (A.Resize(64, 64, area_for_downscale="image_mask"), "Resize has area_for_downscale: .* set it to image"),
        (A.RandomCrop(9000, 9000), "RandomCrop fails on an image and its mask.*CropSizeError: Crop size"),
    ],
)  # fmt: skip
def test_what_spoils_labels_is_refused(transform: A.BasicTransform, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        check(transform)


class OwnResize(A.DualTransform):
    """Interpolates masks by a flag that no setting tells."""

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, height: int, width: int, flag: int) -> None:
        super().__init__(p=1)
        self.size, self.flag = (width, height), flag

    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        return cv2.resize(img, self.size, interpolation=cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: Array, *args: Any, **params: Any) -> Array:
        return cv2.resize(mask, self.size, interpolation=self.flag)


SIZES = [(side, side) for side in (8, 16, 32, 48, 96, 97, 101, 128, 194, 512)]
SIZES += [(24, 32), (48, 64), (70, 100), (97, 131), (192, 256), (480, 640)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_interpolated_masks_are_found_at_any_size(size: tuple[int, int]) -> None:
    for flag in (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA):
        with pytest.raises(ConfigError, match=r"OwnResize puts values into the mask that it did not have \(\d"):
            check(OwnResize(*size, flag))
        with pytest.raises(ConfigError, match=r"Resize has mask_interpolation: .*leave it out, or set it to 0"):
            check(A.Resize(*size, mask_interpolation=flag))
    for flag in (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
        check(OwnResize(*size, flag))
        check(A.Resize(*size, mask_interpolation=flag))


@pytest.mark.parametrize("side", [48, 70, 97])
def test_the_setting_is_refused_in_every_transform(side: int) -> None:
    for transform in (A.SmallestMaxSize, A.LongestMaxSize):
        check(transform(side))
        with pytest.raises(ConfigError, match=f"{transform.__name__} has mask_interpolation: 2"):
            check(A.OneOf([A.NoOp(), transform(side, mask_interpolation=cv2.INTER_CUBIC)]))


@pytest.mark.parametrize(("ignore_index", "classes", "dtype"), [(255, 255, INT32), (255, 254, UINT8), (-1, 3, INT32)])
def test_tried_on_the_type_that_masks_have(scenes: Path, ignore_index: int, classes: int, dtype: np.dtype[Any]) -> None:
    """As bytes, 255 classes and the ignore index leave no value for what is foreign: masks are wider."""
    folder = Folder(images="train/images", masks="train/masks")
    seen = set()

    def see(mask: Array, **_: Any) -> Array:
        seen.add(mask.dtype)
        return mask

    data = SegmentationDataModule(
        [str(index) for index in range(classes)], folder, root=str(scenes), ignore_index=ignore_index,
        unknown="ignore", train_transforms=[A.Lambda(mask=see)], num_workers=0,
    )  # fmt: skip
    data.setup("fit")
    assert seen == {dtype}
    assert data.datasets["train"][0]["sem_seg"].numpy().dtype == dtype
    assert seen == {dtype}


def test_ids_beyond_a_byte_are_tried() -> None:
    narrow = A.Lambda(mask=lambda mask, **_: mask.astype(np.uint8))
    check(narrow)
    with pytest.raises(ConfigError, match="Lambda puts values into the mask"):
        check(narrow, 255, INT32)


@pytest.mark.parametrize("ignore_index", [11, -1])
def test_padding_is_told_from_any_ignore_index(ignore_index: int) -> None:
    with pytest.raises(ConfigError, match=f"fills the mask with 0.*the ignore index is {ignore_index}"):
        check(A.GridElasticDeform((4, 4), 10), ignore_index)
    with pytest.raises(ConfigError, match="fills the mask with 0"):
        check(A.GridElasticDeform((4, 4), 4), ignore_index)


def test_the_pipeline_stays_as_it_is() -> None:
    transforms = [RandomScaleCrop(20, 20), A.RandomBrightnessContrast(p=0.3), A.OneOf([A.Rotate(p=0.2), A.Blur()])]
    pipeline = build_pipeline(transforms, 255)
    pipeline.set_random_state(np.random.default_rng(1), random.Random(1))
    before = repr(pipeline), pipeline.py_random.getstate(), pipeline.random_generator.bit_generator.state
    check_transforms(pipeline, 255, UINT8, "")
    assert (repr(pipeline), pipeline.py_random.getstate(), pipeline.random_generator.bit_generator.state) == before
    assert all(transform.py_random is pipeline.py_random for transform in transforms)


def test_a_run_with_nested_transforms(experiment: Callable[..., Path], tmp_path: Path) -> None:
    scale = {"class_path": "lightning_seg.data.RandomScaleCrop", "init_args": {"height": 48, "width": 64}}
    scale["init_args"] |= {"scale_limits": [0.5, 1.5], "max_fraction": 0.9, "fill": [124, 116, 104]}
    crop = {"class_path": "lightning_seg.data.CategoryLimitedCrop", "init_args": {"height": 32, "width": 32}}
    blur = {"class_path": "albumentations.Blur"}
    chain = {"class_path": "albumentations.Sequential", "init_args": {"transforms": [blur], "p": 0.5}}
    flip = {"class_path": "albumentations.HorizontalFlip"}
    choice = {"class_path": "albumentations.OneOf", "init_args": {"transforms": [flip, chain], "p": 1.0}}
    config = experiment(train_transforms=[scale, crop, choice])
    main(["fit", "--config", str(config), "--trainer.max_epochs", "1"])
    assert (tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt").exists()


def test_refused_on_the_command_line(experiment: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    deform = {"class_path": "albumentations.GridElasticDeform", "init_args": {"num_grid_xy": [4, 4], "magnitude": 5}}
    choice = {"class_path": "albumentations.OneOf", "init_args": {"transforms": [deform]}}
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(experiment(train_transforms=[choice]))])
    assert "data.train_transforms: GridElasticDeform fills the mask with 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(experiment(eval_transforms=[{"class_path": "albumentations.ToFloat"}]))])
    assert "data.eval_transforms: ToFloat returns a float32 image" in capsys.readouterr().err
