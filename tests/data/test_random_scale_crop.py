"""Scale, pad and crop in one step, against albumentations' three transforms and against OpenCV on the whole image."""

import math
import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest

from lightning_seg.data.transforms import (
    CategoryLimitedCrop,
    RandomScaleCrop,
    build_pipeline,
    coming_pixels,
    reseed,
    window,
)

RNG = np.random.default_rng(0)
IGNORE = 255


def sample(height: int, width: int) -> dict[str, Any]:
    """White noise, in which a sampling position that is off by 1/100 pixel shows."""
    return {
        "image": RNG.integers(0, 256, (height, width, 3), np.uint8),
        "mask": RNG.integers(0, 19, (height, width), np.uint8),
    }


def whole(image: np.ndarray, size: tuple[int, int], crop: window.Window, interpolation: int, fill: Any) -> np.ndarray:
    """Brute force: all of the image is scaled, then padded, then cropped."""
    scaled = cv2.resize(image, size[::-1], interpolation=interpolation)
    (top, height), (left, width) = ((span.start, span.length) for span in (crop.rows, crop.columns))
    margin = max(0, height, width)
    pads = [(margin, margin), (margin, margin), (0, 0)][: scaled.ndim]
    padded = np.pad(scaled.astype(np.float64), pads, constant_values=np.nan)
    cut = padded[margin + top : margin + top + height, margin + left : margin + left + width]
    return np.where(np.isnan(cut), np.broadcast_to(fill, cut.shape), cut)


@pytest.mark.parametrize("resize_cost", [window._RESIZE_COST, 0, math.inf])  # 0: never by window, inf: always
@pytest.mark.parametrize("seed", range(30))
def test_equals_scaling_all_of_the_image(seed: int, resize_cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_RESIZE_COST", resize_cost)
    rng = random.Random(seed)
    height, width = rng.randint(1, 150), rng.randint(1, 150)
    limits = sorted((rng.uniform(0.2, 3), rng.uniform(0.2, 3)))
    transform = RandomScaleCrop(rng.randint(1, 120), rng.randint(1, 120), tuple(limits), fill=(9, 8, 7))
    data = sample(height, width)
    for _ in range(20):
        out = transform(**data)
        crop, scale = transform.params["window"], transform.params["scale"]
        size = max(1, round(height * scale)), max(1, round(width * scale))
        expected = whole(data["image"], size, crop, cv2.INTER_LINEAR, (9, 8, 7))
        assert np.abs(out["image"] - expected).max() <= 1  # cv2.resize rounds weights to 11 bits, the window's does not
        assert np.array_equal(out["mask"], whole(data["mask"], size, crop, cv2.INTER_NEAREST_EXACT, IGNORE))
        assert out["image"].dtype == out["mask"].dtype == np.uint8


KINDS = [(dtype, count) for dtype in ("uint8", "uint16", "int16", "float32") for count in (1, 2, 3, 4, 6, 12)]


@pytest.mark.parametrize("resize_cost", [0, math.inf])
@pytest.mark.parametrize(("dtype", "channels"), [*KINDS, ("uint16", 130)])
def test_any_type_and_channels(dtype: str, channels: int, resize_cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same steps on float64 planes, each by itself; noise over the whole range of the type."""
    monkeypatch.setattr(window, "_RESIZE_COST", resize_cost)
    low, high = (-3.0, 40.0) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    image = RNG.uniform(low, high, (45, 61, channels)).astype(dtype)
    mask = sample(45, 61)["mask"]
    fill = tuple(float(place) for place in range(channels))
    near = (high - low) * {"uint8": 1 / 255}.get(dtype, 1e-4)
    transforms = [RandomScaleCrop(40, 50, (0.4, 2.2), fill=fill), CategoryLimitedCrop(70, 50, fill=3)]
    for transform, padding in zip(transforms, (fill, 3), strict=True):
        for _ in range(4):
            out = transform(image=image, mask=mask)["image"]
            place, scale = transform.params["window"], transform.params["scale"]
            size = max(1, round(45 * scale)), max(1, round(61 * scale))
            planes = [
                whole(
                    image[..., index].astype(float),
                    size,
                    place,
                    cv2.INTER_LINEAR,
                    np.broadcast_to(padding, channels)[index],
                )
                for index in range(channels)
            ]
            assert out.dtype == image.dtype
            assert np.abs(out - np.stack(planes, axis=2)).max() <= near


@pytest.mark.parametrize("interpolation", [cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_AREA])
@pytest.mark.parametrize(("dtype", "channels"), [("uint16", 1), ("int16", 6), ("float32", 12)])
def test_other_interpolations_of_any_kind(dtype: str, channels: int, interpolation: int) -> None:
    image = RNG.uniform(0, 9000, (50, 70, channels)).astype(dtype)
    transform = RandomScaleCrop(30, 40, (0.4, 2.5), interpolation=interpolation)
    for _ in range(4):
        out = transform(image=image)["image"]
        size = round(50 * transform.params["scale"]), round(70 * transform.params["scale"])
        place = transform.params["window"]
        planes = [whole(image[..., index], size, place, interpolation, 0) for index in range(channels)]
        assert out.dtype == dtype
        assert np.abs(out - np.stack(planes, axis=2)).max() <= 1  # OpenCV rounds by the number of channels


def test_parts_scale_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an axis keeps its length or nearly so, and where a part begins in the middle of the image."""
    monkeypatch.setattr(window, "_RESIZE_COST", 0)
    cuts = 0
    for seed in range(3000):
        rng = random.Random(seed)
        height, width = rng.randint(1, 60), rng.randint(1, 60)
        scale = rng.choice([1.0, rng.uniform(0.95, 1.05), rng.uniform(0.2, 3)])
        scaled = max(1, round(height * scale)), max(1, round(width * scale) + rng.randint(0, 1))
        spans = (window.Span.draw(length, rng.randint(1, 70), rng.random) for length in scaled)
        crop = window.Window(*spans, size=(height, width))
        image = sample(height, width)["image"]
        expected = cv2.resize(image, scaled[::-1])[crop.rows.inside, crop.columns.inside]
        assert np.abs(crop.of_image(image, cv2.INTER_LINEAR).astype(int) - expected).max() <= 1
        cuts += crop.rows.anchor(height)[0] > 0
    assert cuts > 100


def test_positions_are_exact_far_from_the_corner() -> None:
    transform = RandomScaleCrop(16, 64, (1.1, 1.9))
    data = sample(30, 20000)
    for _ in range(10):
        out = transform(**data)
        size = round(30 * transform.params["scale"]), round(20000 * transform.params["scale"])
        expected = whole(data["image"], size, transform.params["window"], cv2.INTER_LINEAR, 0)
        assert np.abs(out["image"] - expected).max() <= 1


@pytest.mark.parametrize("size", [(40, 60), (90, 61)])
def test_draws_as_the_chain_of_albumentations_does(size: tuple[int, int]) -> None:
    """The same random numbers give the same crop, but that albumentations cuts the scaled size off."""
    chain = A.Compose(
        [
            A.RandomScale((-0.5, 1.0), p=1.0),
            A.PadIfNeeded(50, 70),
            A.RandomCrop(50, 70),
        ]
    )
    ours = build_pipeline([RandomScaleCrop(50, 70)], IGNORE)
    data, compared = sample(*size), 0
    for position in range(300):
        for pipeline in (chain, ours):
            reseed(pipeline, 0, 0, position)
        theirs, out = chain(**data), ours(**data)
        scale = ours.transforms[0].params["scale"]
        if any(round(side * scale) != int(side * scale) for side in size):
            continue
        compared += 1
        assert np.abs(out["image"].astype(int) - theirs["image"]).max() <= 1
    assert compared > 30


@pytest.mark.parametrize("interpolation", [cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_AREA])
def test_other_interpolations_are_those_of_opencv(interpolation: int) -> None:
    transform = RandomScaleCrop(30, 30, (0.4, 2.5), interpolation=interpolation)
    data = sample(50, 70)
    for _ in range(20):
        out = transform(**data)
        size = round(50 * transform.params["scale"]), round(70 * transform.params["scale"])
        expected = whole(data["image"], size, transform.params["window"], interpolation, 0)
        assert np.array_equal(out["image"], expected)


def test_without_exact_positions_the_whole_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_EXACT_POSITIONS", False)  # as with OpenCV 4
    transform = RandomScaleCrop(20, 20, (1.7, 2.0))
    data = sample(50, 70)
    out = transform(**data)
    size = round(50 * transform.params["scale"]), round(70 * transform.params["scale"])
    assert np.array_equal(out["image"], whole(data["image"], size, transform.params["window"], cv2.INTER_LINEAR, 0))


def test_one_pixel_more_or_less_of_padding() -> None:
    """Where scaled size and crop differ by one pixel: nothing is lost, nothing read outside."""
    data = sample(21, 21)
    for side in (20, 21, 22):
        out = RandomScaleCrop(side, side, (1.0, 1.0), fill=1)(**data)
        assert out["image"].shape == (side, side, 3)
        assert (out["mask"] == IGNORE).sum() == max(0, side * side - 21 * 21)


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
@pytest.mark.parametrize("exact", [True, False], ids=["OpenCV 5", "OpenCV 4"])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(81, 99), (127, 65), (64, 96), (83, 94)])
def test_image_smaller_than_its_mask(
    factor: int, size: tuple[int, int], exact: bool, interpolation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JPEG that is decoded at a fraction shows the same place, to its last pixel, at any size.

    Of a ramp, every way of averaging and of interpolating gives the ramp at that place.
    """
    monkeypatch.setattr(window, "_EXACT_POSITIONS", exact)
    rows, columns = (np.linspace(20, 230, length) for length in size)
    ramp = np.stack(np.broadcast_arrays(rows[:, None], columns[None], 0.0), axis=2)
    padded = np.pad(ramp, ((0, -size[0] % factor), (0, -size[1] % factor), (0, 0)), "reflect", reflect_type="odd")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor, 3).mean((1, 3))
    reduced = np.clip(blocks, 0, 255).round().astype(np.uint8)
    mask = RNG.integers(0, 19, size, np.uint8)
    crop = RandomScaleCrop(30, 40, (0.6 / factor, 1 / factor), interpolation=interpolation)
    pipeline = build_pipeline([crop], IGNORE)
    for position in range(20):
        reseed(pipeline, 1, 0, position)
        full = pipeline(image=ramp.round().astype(np.uint8), mask=mask)
        reseed(pipeline, 1, 0, position)
        half = pipeline(image=reduced, mask=mask)
        assert np.array_equal(full["mask"], half["mask"])
        place = crop.params["window"]
        for axis, span in enumerate((place.rows, place.columns)):
            centres = (np.arange(span.scaled) + 0.5) * size[axis] / span.scaled - 0.5
            expected = np.interp(centres, np.arange(size[axis]), (rows, columns)[axis])[span.inside]
            shown = half["image"][place.rows.filled, place.columns.filled, axis]
            near_the_border = 1.5 * factor * 210 / size[axis]  # where there is less than a block to interpolate with
            border = factor * (0.5 if interpolation == cv2.INTER_LINEAR else 2)
            inner = (centres > border) & (centres < size[axis] - 1 - border)
            error = np.abs(shown.mean(axis=1 - axis) - expected)
            assert error[inner[span.inside]].max(initial=0) < 2
            assert error.max() < near_the_border


@pytest.mark.parametrize("p", [1.0, 0.5])
@pytest.mark.parametrize("max_fraction", [1.0, 0.75])
@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_what_will_be_used_is_known_before_the_call(p: float, max_fraction: float, interpolation: int) -> None:
    transform = RandomScaleCrop(20, 30, max_fraction=max_fraction, interpolation=interpolation, p=p)
    pipeline = build_pipeline([transform, A.HorizontalFlip()], IGNORE)
    data, parts = sample(50, 70), set()
    for position in range(40):
        reseed(pipeline, 0, 0, position)
        coming = coming_pixels(pipeline, data["mask"])
        assert coming_pixels(pipeline, data["mask"]) == coming  # it draws nothing
        image = data["image"]
        if coming is not None:
            image = RNG.integers(0, 256, image.shape, np.uint8)
            image[coming.rows, coming.columns] = data["image"][coming.rows, coming.columns]
            parts.add((coming.rows.start, coming.rows.stop))
        out = pipeline(image=image, mask=data["mask"])
        assert transform.params.get("scale", 1.0) == pytest.approx(1.0 if coming is None else coming.scale, abs=0.01)
        reseed(pipeline, 0, 0, position)
        assert np.array_equal(out["image"], pipeline(**data)["image"])
    assert (len(parts) > 10) == (interpolation == cv2.INTER_LINEAR)


def test_what_will_be_used_is_not_known_behind_another_transform() -> None:
    mask = sample(20, 20)["mask"]
    assert coming_pixels(build_pipeline([A.HorizontalFlip(), RandomScaleCrop(8, 8)], IGNORE), mask) is None
    assert coming_pixels(build_pipeline([], IGNORE), mask) is None


def test_without_a_mask() -> None:
    assert RandomScaleCrop(30, 30)(image=sample(20, 25)["image"])["image"].shape == (30, 30, 3)


def test_wide_labels_keep_their_type() -> None:
    data = sample(20, 20)
    out = build_pipeline([RandomScaleCrop(60, 60)], -1)(image=data["image"], mask=data["mask"].astype(np.int32))
    assert out["mask"].dtype == np.int32
    assert out["mask"].min() == -1


@pytest.mark.parametrize("limits", [(0, 1), (2, 0.5), (-1, 1)])
def test_scale_limits_are_checked(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the smaller one first"):
        RandomScaleCrop(8, 8, scale_limits=limits)
