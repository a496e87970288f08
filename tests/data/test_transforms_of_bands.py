"""Transforms meet the type, bands and values of the data: which pass is the table of docs/data.md."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
from albumentations.core.type_definitions import Targets
from PIL import Image

from lightning_seg.data import CategoryLimitedCrop, Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.reading import ReadingRules
from lightning_seg.data.surveying.values import pixels_of
from lightning_seg.data.transforms import build_pipeline, check_transforms
from lightning_seg.data.transforms.pixels import Pixels
from lightning_seg.errors import ConfigError
from lightning_seg.structures import Sample
from tests.conftest import REPOSITORY
from tests.data.test_transform_contract import FAULTS, NEEDED, TRANSFORMS

Array = np.ndarray[Any, Any]

KINDS = {
    "4 × uint16, 0…10 000": Pixels(4, "uint16", 0, 10_000),
    "12 × float32, 0…0.6": Pixels(12, "float32", 0, 0.6),
    "2 × float32, −25…5": Pixels(2, "float32", -25, 5),
    "4 × int16": Pixels(4, "int16", -200, 9000),
}
UINT16, REFLECTANCE, DECIBELS, INT16 = KINDS.values()
LISTED = {
    "RandomScaleCrop": RandomScaleCrop(64, 64, fill=7),
    "CategoryLimitedCrop": CategoryLimitedCrop(64, 64),
    **{
        name: getattr(A, name)(**NEEDED.get(name, {}))
        for name in (
            "HorizontalFlip", "RandomRotate90", "RandomCrop", "RandomResizedCrop", "Affine", "Rotate", "Perspective",
            "ElasticTransform", "CoarseDropout", "ChannelDropout", "GaussianBlur", "MotionBlur", "UnsharpMask",
            "Sharpen", "RandomBrightnessContrast", "GaussNoise", "MultiplicativeNoise", "RandomGamma", "MedianBlur",
            "Downscale", "ColorJitter", "HueSaturationValue", "RGBShift", "CLAHE", "ToGray", "ImageCompression",
            "Normalize",
        )
    },
    "RandomBrightnessContrast`, `brightness_by_max: false": A.RandomBrightnessContrast(brightness_by_max=False),
}  # fmt: skip


def check(transform: A.BasicTransform, pixels: Pixels) -> None:
    pipeline = build_pipeline([deepcopy(transform)], 255)
    check_transforms(pipeline, 255, np.dtype(np.uint8), "data.train_transforms", pixels)


def passes(transform: A.BasicTransform, pixels: Pixels) -> bool:
    try:
        check(transform, pixels)
    except ConfigError as error:
        return not str(error).startswith(f"data.train_transforms: {type(transform).__name__} ")
    return True


def test_the_table_of_the_documentation() -> None:
    """Names by the kinds of images that they pass on, as docs/data.md lists them."""
    rows: dict[tuple[bool, ...], list[str]] = {}
    for name, transform in LISTED.items():
        rows.setdefault(tuple(passes(transform, pixels) for pixels in KINDS.values()), []).append(f"`{name}`")
    lines = ["| " + " | ".join(["transforms", *KINDS]) + " |", "|" + "---|" * (len(KINDS) + 1)]
    for verdicts, names in sorted(rows.items(), reverse=True):
        lines.append(f"| {', '.join(names)} | " + " | ".join("yes" if ok else "no" for ok in verdicts) + " |")
    table = "\n".join(lines)
    assert table in (REPOSITORY / "docs/data.md").read_text(), f"docs/data.md needs this table:\n{table}"


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [*KINDS.values(), Pixels(4), Pixels(1, "uint16", 0, 4095)], ids=str)
@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in FAULTS])
def test_every_transform_keeps_type_and_bands_or_is_refused(name: str, pixels: Pixels) -> None:
    transform = getattr(A, name)(**NEEDED.get(name, {}))
    if not passes(transform, pixels):
        return
    transform.p = 1.0
    image = np.random.default_rng(0).uniform(pixels.low, pixels.high, (97, 131, pixels.channels)).astype(pixels.dtype)
    out = transform(image=image, mask=np.zeros((97, 131), np.uint8))["image"]
    assert out.dtype == pixels.dtype
    assert out.shape[2] == pixels.channels


class FirstThree(A.ImageOnlyTransform):
    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        out = img.copy()
        out[..., :3] = out[..., :3] * self.py_random.uniform(0.8, 0.9)
        return out


def cut_to_bytes(image: Array, **_: Any) -> Array:
    return image.clip(0, 255)


def three_bands(image: Array, **_: Any) -> Array:
    return image[..., :3]


class TurnedInPart(A.DualTransform):
    """Mirrors all but the last band."""

    _targets = (Targets.IMAGE, Targets.MASK)

    def apply(self, img: Array, *args: Any, **params: Any) -> Array:
        return np.concatenate([img[:, ::-1, :-1], img[..., -1:]], axis=2)

    def apply_to_mask(self, mask: Array, *args: Any, **params: Any) -> Array:
        return mask[:, ::-1]


@pytest.mark.parametrize(
    ("transform", "pixels", "fault"),
    [
        (A.HueSaturationValue(), UINT16, r"HueSaturationValue fails on 4 bands of uint16 with values from 0 to 10000 "
         r"\(TypeError: .*1-channel or 3-channel.*leave it out; docs/data.md names"),
        (A.CLAHE(), REFLECTANCE, "CLAHE fails on 12 bands of float32"),
        (A.GaussNoise(), UINT16, "GaussNoise fails on 4 bands"),
        (A.RandomGamma(), UINT16, "RandomGamma returns a float64 image of 4 bands of uint16"),
        (A.RandomGamma(), DECIBELS, "RandomGamma returns NaN"),
        (A.MedianBlur(), REFLECTANCE, "MedianBlur leaves no more than 256 different values of 12 bands"),
        (A.RandomBrightnessContrast(), UINT16, "returns values from 0 to .* set its brightness_by_max to false"),
        (A.RandomBrightnessContrast(), DECIBELS, "returns values from 0 to 1 for 2 bands of float32 with values from "
         "-25 to 5, since it takes images to lie between 0 and 1: leave it out"),
        (A.CoarseDropout(fill="random"), UINT16, "CoarseDropout returns values .* set its fill to a number"),
        (A.Normalize(), DECIBELS, "Normalize normalises images, but the model subtracts MODEL.PIXEL_MEAN"),
        (A.ToFloat(), REFLECTANCE, "ToFloat normalises images"),
        (A.Blur(), INT16, None),
        (A.GaussianBlur(), INT16, r"GaussianBlur fails on 4 bands of int16 .*KeyError"),
        (A.ToRGB(), Pixels(1, "uint16", 0, 4095), "and keep one channel"),
        (A.CoarseDropout(), Pixels(2, "float32", 270, 310), None),
        (A.PadIfNeeded(1024, 1024), UINT16, None),
        (RandomScaleCrop(60, 60, fill=(1, 2, 3, 4)), UINT16, None),
        (RandomScaleCrop(60, 60, fill=(1, 2, 3)), UINT16, "RandomScaleCrop fails on .*fill has 3 values"),
        (FirstThree(), UINT16, "FirstThree changes the first three of 4 bands alone"),
        (FirstThree(), Pixels(4), "FirstThree changes the first three of 4 bands alone"),
        (TurnedInPart(), REFLECTANCE, "TurnedInPart moves the image without its mask"),
        (TurnedInPart(), Pixels(4), "TurnedInPart changes the first three of 4 bands alone"),
        (A.Lambda(image=cut_to_bytes), UINT16, "it takes images to lie between 0 and 255"),
        (A.Lambda(image=three_bands), UINT16, r"shape \(97, 131, 3\) .* keep 4 channels"),
    ],
)  # fmt: skip
def test_what_is_not_made_for_bands_is_refused(transform: A.BasicTransform, pixels: Pixels, fault: str | None) -> None:
    if fault is None:
        check(transform, pixels)
        return
    with pytest.raises(ConfigError, match=f"^data.train_transforms: .*{fault}"):
        check(transform, pixels)


def stored(folder: Path, low: float, high: float, dtype: str, channels: int = 4, count: int = 3) -> list[Sample]:
    samples = []
    for index in range(count):
        values = np.random.default_rng(index).uniform(low, high, (40, 50, channels)).astype(dtype)
        if dtype == "float32":
            values[:5] = np.nan
        np.save(path := folder / f"{index}.npy", values)
        samples.append(Sample(path.stem, path))
    return samples


@pytest.mark.parametrize(("low", "high", "dtype"), [(100, 900, "uint16"), (-30, 10, "float32"), (0, 255, "uint8")])
def test_the_range_is_that_of_some_images(tmp_path: Path, low: float, high: float, dtype: str) -> None:
    pixels = pixels_of(stored(tmp_path, low, high, dtype), ReadingRules(bands=(1, 3), dtype=dtype))
    assert (pixels.channels, pixels.dtype) == (2, dtype)
    assert (pixels.low, pixels.high) == pytest.approx((low, high), abs=0.04 * (high - low))


def test_images_that_cannot_be_read_and_constant_ones_have_a_range_too(tmp_path: Path) -> None:
    rules = ReadingRules(bands=(1,), dtype="int16")
    samples = stored(tmp_path, 5, 5.5, "int16")
    assert pixels_of(samples, rules) == Pixels(1, "int16", 5, 10)
    for sample in samples:
        Path(str(sample.image)).write_bytes(b"")
    assert pixels_of(samples, rules) == Pixels(1, "int16") == pixels_of([], rules)


def test_a_run_is_refused_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for sample in stored(tmp_path / "images", 0, 9000, "uint16"):
        Image.new("L", (50, 40)).save(tmp_path / "masks" / f"{sample.name}.png")
    folder = Folder("images", "masks", image_suffixes=[".npy"])
    made: dict[str, Any] = {"train": folder, "root": str(tmp_path), "bands": [1, 2, 3, 4], "num_workers": 0}
    for ask in (lambda data: data.setup("fit"), lambda data: data.try_transforms("train")):
        with pytest.raises(ConfigError, match=r"data.train_transforms: RandomBrightnessContrast returns values from 0"):
            ask(SegmentationDataModule(["a", "b"], train_transforms=[A.RandomBrightnessContrast()], **made))
    data = SegmentationDataModule(["a", "b"], train_transforms=[RandomScaleCrop(32, 32), A.Rotate()], **made)
    data.setup("fit")
    item = data.datasets["train"][0]
    assert item["image"].shape == (4, 32, 32)
    assert str(item["image"].dtype) == "torch.uint16"
