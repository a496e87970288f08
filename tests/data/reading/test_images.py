"""Images become RGB bytes, upright, or are refused by name: nothing is cut, nothing guessed."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading import ImageFile, ReadingRules, decoders, read_image
from lightning_seg.errors import ConfigError, UnfitImageError, UnreadableError
from tests.data.reading.files import chunk, deep_png, exif, png, saved, tiff

WHOLE = (slice(0, 1), slice(0, 1))
NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 4096, (12, 10, 3), np.uint16)


def read(tmp_path: Path, data: bytes, **rules: Any) -> np.ndarray:
    (tmp_path / "i").write_bytes(data)
    return read_image(tmp_path / "i", ReadingRules(**rules))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "LA", "YCbCr"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    image = read(tmp_path, saved(Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode), "TIFF"))
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_pngs_decode_to_pillows_pixels(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.dstack([NOISE, NOISE[..., 0]]), "RGBA").convert(mode)
    assert np.array_equal(read(tmp_path, saved(image, "PNG")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("with_flag", [True, False])
def test_pngs_with_a_transparent_colour(tmp_path: Path, with_flag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_flag:  # of OpenCV before 4.11
        monkeypatch.setattr(decoders, "_IN_RGB", None)
    transparent = chunk(b"tRNS", b"".join(b"\0" + bytes([value]) for value in NOISE[0, 0]))
    gamma = chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    data = png(8, 2, [row.tobytes() for row in NOISE], NOISE.shape[1], gamma, transparent)
    assert np.array_equal(read(tmp_path, data), NOISE)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {"quality": 95}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0})],
)
def test_jpegs_decode_to_pillows_pixels(
    tmp_path: Path, mode: str, options: dict[str, int], library: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not library:
        monkeypatch.setattr(decoders.turbojpeg, "_library", lambda: None)
    data = saved(Image.fromarray(NOISE).convert(mode), "JPEG", **options)
    image = read(tmp_path, data)
    with Image.open(tmp_path / "i") as pillow:
        assert np.array_equal(image, np.asarray(pillow.convert("RGB")))


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize(("reduce", "shape"), [(2, (19, 27, 3)), (4, (10, 14, 3)), (8, (5, 7, 3))])
def test_jpegs_decode_at_a_fraction_of_their_size(
    tmp_path: Path, reduce: int, shape: tuple[int, int, int], library: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not library:
        monkeypatch.setattr(decoders.turbojpeg, "_library", lambda: None)
    smooth = cv2.resize(NOISE[:3, :4], (53, 37), interpolation=cv2.INTER_LINEAR)
    (tmp_path / "i").write_bytes(saved(smooth, "JPEG", quality=95))
    file = ImageFile(tmp_path / "i")
    assert file.reductions == (2, 4, 8)
    reduced = file.reduced(reduce)
    assert reduced.shape == shape
    rows, columns = 37 // reduce, 53 // reduce  # those that stand for pixels of the image alone
    blocks = smooth[: rows * reduce, : columns * reduce].reshape(rows, reduce, columns, reduce, 3).mean((1, 3))
    assert np.abs(reduced[:rows, :columns] - blocks).mean() < 2


@pytest.mark.parametrize("library", [True, False])
def test_images_narrower_than_the_reduction(tmp_path: Path, library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not library:
        monkeypatch.setattr(decoders.turbojpeg, "_library", lambda: None)
    (tmp_path / "i").write_bytes(saved(np.full((3, 20, 3), 90, np.uint8), "JPEG"))
    reduced = ImageFile(tmp_path / "i").reduced(8)
    assert reduced.shape == ((1, 3, 3) if library else (2, 10, 3))  # Pillow reduces no further than both sides can be
    assert np.abs(reduced.astype(int) - 90).max() <= 1


def test_turned_images_are_reduced_only_without_a_rest(tmp_path: Path) -> None:
    """Turned, the pixel that stands for less would come first."""
    (tmp_path / "i").write_bytes(saved(NOISE[:36, :40], "JPEG", exif=b"Exif\0\0" + exif(6)))
    file = ImageFile(tmp_path / "i")
    assert file.reductions == (2, 4)
    assert file.reduced(4).shape == (10, 9, 3)
    (tmp_path / "i").write_bytes(saved(NOISE, "PNG"))
    assert ImageFile(tmp_path / "i").reductions == ()


@pytest.mark.parametrize("read", [read_image, lambda path: ImageFile(path).part(*WHOLE)])
def test_missing_files_are_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(UnreadableError, match=r"image .*none\.jpg does not exist"):
        read(tmp_path / "none.jpg")


def test_truncated_files_are_named(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        data = saved(NOISE, kind)
        with pytest.raises(UnreadableError, match=r"image .*i cannot be read \(.+\): replace or remove it"):
            read(tmp_path, data[: len(data) // 2])


def spoilt_middle(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :]


def cut_and_ended(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


@pytest.mark.skipif(decoders.turbojpeg._library() is None, reason="libjpeg-turbo 3 is not installed here")
@pytest.mark.parametrize("spoil", [spoilt_middle, cut_and_ended])
@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"subsampling": 0})],
)
def test_damage_in_the_middle_of_a_jpeg_has_one_answer(
    tmp_path: Path, mode: str, options: dict[str, Any], spoil: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "i").write_bytes(spoil(saved(Image.fromarray(NOISE).convert(mode), "JPEG", quality=95, **options)))
    file = ImageFile(tmp_path / "i")
    rows, columns = slice(20, 37), slice(0, 30)
    for read in (file.whole, lambda: file.part(rows, columns), lambda: file.reduced(2)):
        with pytest.raises(
            UnreadableError, match=r"image .*i cannot be read \(Corrupt JPEG data: .*\): replace or remove"
        ):
            read()


def test_damage_behind_the_rows_changes_none_of_them(tmp_path: Path) -> None:
    data = saved(np.repeat(NOISE, 4, axis=0), "JPEG", quality=95)
    (tmp_path / "sound").write_bytes(data)
    (tmp_path / "i").write_bytes(data[: -len(data) // 8] + b"\xff\xd9")
    rows, columns = slice(0, 20), slice(0, 30)
    part = ImageFile(tmp_path / "i").part(rows, columns)
    assert np.array_equal(part[rows, columns], read_image(tmp_path / "sound")[rows, columns])


def damaged_pngs() -> dict[str, bytes]:
    data = saved(NOISE, "PNG")
    place = data.index(b"IDAT") + 40
    flipped = bytearray(data)
    flipped[place] ^= 1
    rows = [row.tobytes() for row in NOISE]
    short = png(8, 2, rows[:20], NOISE.shape[1])
    header = chunk(b"IHDR", data[16:20] + (37).to_bytes(4, "big") + data[24:29])
    return {
        "its 'IDAT' chunk is damaged: the checksum differs": bytes(flipped),
        "it is truncated": data[:-12],
        "its pixels are damaged": short[:8] + header + short[33:],
    }


@pytest.mark.parametrize("reason", damaged_pngs())
def test_damaged_pngs_are_named(tmp_path: Path, reason: str) -> None:
    """A bit that is turned would end the process in torchvision, and is not seen by Pillow."""
    with pytest.raises(UnreadableError) as caught:
        read(tmp_path, damaged_pngs()[reason])
    assert str(caught.value).startswith(f"image {tmp_path / 'i'} cannot be read ({reason}")


DEEP_FILES: dict[str, tuple[bytes, str, np.ndarray]] = {
    "grey PNG": (deep_png(DEEP[..., 0]), "1 band of uint16", DEEP[..., 0]),
    "RGB PNG": (deep_png(DEEP), "3 bands of uint16", DEEP),
    "RGBA PNG": (deep_png(np.dstack([DEEP, DEEP[..., :1]])), "3 bands of uint16", DEEP),
    "grey TIFF": (tiff(DEEP[..., 0]), "1 band of uint16", DEEP[..., 0]),
    "RGB TIFF": (tiff(DEEP, order=">"), "3 bands of uint16", DEEP),
    "signed TIFF": (tiff(DEEP.astype(np.int16) - 2000), "3 bands of int16", DEEP.astype(int) - 2000),
    "float TIFF": (tiff(DEEP.astype(np.float32) / 4095), "3 bands of float32", DEEP / 4095),
    "grey float TIFF": (tiff(DEEP[..., 0].astype(np.float32)), "1 band of float32", DEEP[..., 0]),
    "double TIFF": (tiff(DEEP[..., 0].astype(np.float64)), "1 band of float64", DEEP[..., 0]),
    "PGM": (b"P5 10 12 4095\n" + DEEP[..., 0].astype(">u2").tobytes(), "1 band of uint16 (12 bits)", DEEP[..., 0]),
    "PPM": (b"P6 10 12 4095\n" + DEEP.astype(">u2").tobytes(), "3 bands of uint16 (12 bits)", DEEP),
    "int8 TIFF": (tiff((DEEP // 40).astype(np.int8)), "3 bands of int8", DEEP // 40),
}


def separate(values: np.ndarray, order: str, big: bool) -> bytes:
    """A TIFF whose three bands follow one another, in two strips each."""
    height, width, bands = values.shape
    half = height // 2 * width * values.itemsize
    first = 16 if big else 8
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [8 * values.itemsize] * bands), 262: (3, [2]),
            273: (4, [first + half * strip for strip in range(2 * bands)]), 277: (3, [bands]), 278: (4, [height // 2]),
            279: (4, [half] * 2 * bands), 284: (3, [2]),
            339: (3, [3 if values.dtype.kind == "f" else 1] * bands)}  # fmt: skip
    stacked = np.ascontiguousarray(values.transpose(2, 0, 1)).reshape(bands * height, width)
    return tiff(stacked, order=order, big=big, tags=tags)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_bands_that_follow_one_another(tmp_path: Path, kind: str, order: str, big: bool) -> None:
    """As rasterio stores them; OpenCV takes them for interleaved ones without a word."""
    image = read(tmp_path, separate(DEEP.astype(kind), order, big), ranges=((0, 4095),))
    assert np.abs(image - DEEP / 4095 * 255).max() <= 0.51


def test_inks_of_16_bits_are_four_bands(tmp_path: Path) -> None:
    inks = np.zeros((4, 5, 4), np.uint16)
    with pytest.raises(UnfitImageError, match=r"has 4 bands of uint16"):
        read(tmp_path, tiff(inks, tags={262: (3, [5])}), ranges=((0, 1),))


@pytest.mark.parametrize(
    ("suffix", "options", "bits"),
    [
        (".jp2", [], 16),
        (".avif", [getattr(cv2, "IMWRITE_AVIF_DEPTH", 0), 10], 10),
        (".avif", [getattr(cv2, "IMWRITE_AVIF_DEPTH", 0), 12], 12),
    ],
)
def test_deep_images_that_pillow_would_cut(tmp_path: Path, suffix: str, options: list[int], bits: int) -> None:
    if not cv2.haveImageWriter(f"i{suffix}"):
        pytest.skip("this OpenCV does not write it")
    maximum = 2 ** min(bits, 12) - 1
    smooth = cv2.resize(DEEP[:3, :4].astype(np.float32), (64, 48)).astype(np.uint16) >> max(0, 12 - bits)
    data = cv2.imencode(suffix, np.ascontiguousarray(smooth[..., ::-1]), options)[1].tobytes()
    with pytest.raises(UnfitImageError, match=r"image .*i has 3 bands of uint16.* with values from"):
        read(tmp_path, data)
    assert np.abs(read(tmp_path, data, ranges=((0, maximum),)) - smooth / maximum * 255).mean() < 8


@pytest.mark.parametrize("kind", DEEP_FILES)
def test_deep_images_are_refused_with_their_range(tmp_path: Path, kind: str) -> None:
    data, described, values = DEEP_FILES[kind]
    low, high = f"{values.min():.6g}", f"{values.max():.6g}"
    with pytest.raises(UnfitImageError) as caught:
        read(tmp_path, data)
    assert str(caught.value) == (
        f"image {tmp_path / 'i'} has {described} with values from {low} to {high}, and networks take 0 to 255: set "
        f"data.value_range, such as [{low}, {high}], to the values that become 0 and 255, the same for all images, or "
        "convert the images"
    )


@pytest.mark.parametrize("kind", DEEP_FILES)
def test_value_range_scales(tmp_path: Path, kind: str) -> None:
    data, _, values = DEEP_FILES[kind]
    span = values.max() - values.min()
    low, high = float(values.min() + 0.1 * span), float(values.max() - 0.2 * span)
    image = read(tmp_path, data, ranges=((low, high),))
    expected = np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    assert image.dtype == np.uint8
    assert np.abs(image - expected).max() <= 0.51
    assert {0, 255} <= set(image.ravel().tolist())


def test_each_band_has_a_range_of_its_own(tmp_path: Path) -> None:
    ranges = ((0.0, 4095.0), (1000.0, 2000.0), (-500.0, 500.0))
    image = read(tmp_path, tiff(DEEP), ranges=ranges)
    for band, (low, high) in enumerate(ranges):
        expected = np.clip((DEEP[..., band].astype(float) - low) / (high - low), 0, 1) * 255
        assert np.abs(image[..., band] - expected).max() <= 0.51


def test_images_of_8_bits_need_no_range_and_keep_their_values(tmp_path: Path) -> None:
    assert np.array_equal(read(tmp_path, saved(NOISE, "PNG"), ranges=((0, 4095),)), NOISE)


def test_what_is_no_number_is_black(tmp_path: Path) -> None:
    values = np.array([[np.nan, 0, 1, np.inf, -np.inf]], np.float32)
    assert read(tmp_path, tiff(values), ranges=((0, 1),))[0, :, 0].tolist() == [0, 0, 255, 255, 0]
    with pytest.raises(UnfitImageError, match="with values from 0 to 1, and"):
        read(tmp_path, tiff(values))


def test_white_may_be_zero(tmp_path: Path) -> None:
    """The tag of a TIFF decides, at any depth."""
    grey = np.array([[0, 51, 255]], np.uint8)
    assert read(tmp_path, tiff(grey, tags={262: (3, [0])}))[0, :, 1].tolist() == [255, 204, 0]
    deep = grey.astype(np.uint16) * 257
    assert read(tmp_path, tiff(deep, tags={262: (3, [0])}), ranges=((0, 65535),))[0, :, 1].tolist() == [255, 204, 0]


@pytest.mark.parametrize(
    ("bands", "tags"), [(2, {}), (4, {338: (3, [0])}), (4, {}), (5, {}), (12, {}), (12, {338: (3, [2])})]
)
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_bands_are_never_left_out(tmp_path: Path, bands: int, tags: dict[int, Any], kind: str) -> None:
    pixels = np.zeros((4, 5, bands), kind)
    left = bands - (tags.get(338, (3, [0]))[1] == [2])
    with pytest.raises(
        UnfitImageError, match=rf"image .*i has {left} bands of {kind}, and networks take 3: name those"
    ):
        read(tmp_path, tiff(pixels, tags=tags), ranges=((0, 1),))


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG2000", {}), ("AVIF", {"quality": 100}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_other_formats_of_8_bits(tmp_path: Path, kind: str, options: dict[str, Any], mode: str) -> None:
    smooth = cv2.resize(NOISE[:3, :4], (64, 48))
    data = saved(Image.fromarray(smooth).convert(mode), kind, **options)
    assert np.abs(read(tmp_path, data).astype(int) - smooth).mean() < 2


def test_a_fourth_band_of_a_jpeg_2000_that_is_no_alpha(tmp_path: Path) -> None:
    data = saved(Image.new("RGBA", (64, 64)), "JPEG2000", no_jp2=True)  # the bare code stream does not say
    with pytest.raises(UnfitImageError, match=r"image .*i has 4 bands of uint8, and networks take 3"):
        read(tmp_path, data)


def test_alpha_is_no_band(tmp_path: Path) -> None:
    rgba = np.dstack([NOISE, NOISE[..., 0]])
    assert np.array_equal(read(tmp_path, tiff(rgba, tags={338: (3, [2])})), NOISE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations_are_refused(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), (value, 0, 0)) for value in (0, 100, 200)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(UnfitImageError, match=r"image .*i has 3 frames, and one is expected: store each as a file"):
        read(tmp_path, data)


def test_pages_are_never_left_out(tmp_path: Path) -> None:
    page = NOISE[..., 0]
    with pytest.raises(UnfitImageError, match=r"image .*i has 2 pages, and one is expected: store each as a file"):
        read(tmp_path, tiff(page, page))
    assert np.array_equal(read(tmp_path, tiff(page, page, later={254: (4, [1])}))[..., 0], page)


@pytest.mark.parametrize(
    "value_range", [[], [1], [3, 1], [1, 1], [0, float("inf")], [[0, 1], [0, 1], [1, 0]], [[0, 1], 3]]
)
def test_ranges_that_are_none(value_range: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.value_range is .* but must be two numbers, the lower one first"):
        ReadingRules.of_settings(value_range, 1)


@pytest.mark.parametrize(
    ("pairs", "bands", "said"),
    [
        (2, None, "data.value_range has 2 pairs, but images have 3 channels, RGB: give one pair for all bands, or 3"),
        (3, [4, 3, 2, 8], "data.value_range has 3 pairs, but data.bands names 4: give one pair for all bands, or 4"),
        (3, [1], "data.value_range has 3 pairs, but data.bands names 1: give one pair for all bands, or 1"),
    ],
)
def test_another_number_of_ranges_than_of_bands(pairs: int, bands: list[int] | None, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        ReadingRules.of_settings([[0, 1]] * pairs, 1, bands)


@pytest.mark.parametrize("bands", [[1], [2, 1], [4, 3, 2, 1, 5]])
def test_a_range_for_each_of_any_number_of_bands(tmp_path: Path, bands: list[int]) -> None:
    values = np.random.default_rng(2).integers(0, 4000, (6, 7, 5)).astype(np.uint16)
    (tmp_path / "i.tif").write_bytes(tiff(values))
    ranges = [[100 * band, 2000 + 300 * band] for band in bands]
    image = read_image(tmp_path / "i.tif", ReadingRules.of_settings(ranges, 10**6, bands))
    assert (image.dtype, image.shape) == (np.uint8, (6, 7, len(bands)))
    for place, (band, (low, high)) in enumerate(zip(bands, ranges, strict=True)):
        expected = np.clip((values[..., band - 1].astype(float) - low) / (high - low), 0, 1) * 255
        assert np.abs(image[..., place] - expected).max() <= 0.51


def test_ranges_as_users_write_them() -> None:
    assert ReadingRules.of_settings([0, 4095], 5) == ReadingRules(((0.0, 4095.0),), 5)
    assert ReadingRules.of_settings([[0, 1], [0, 2], [0, 3]], 5).ranges == ((0.0, 1.0), (0.0, 2.0), (0.0, 3.0))
    assert ReadingRules.of_settings([[0, 1]], 5).ranges == ((0.0, 1.0),)
    assert ReadingRules.of_settings(None, 5) == ReadingRules(None, 5)
    with pytest.raises(ConfigError, match=r"data\.max_pixels is 0, but must be at least 1"):
        ReadingRules.of_settings(None, 0)


def test_jpegs_without_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders.turbojpeg, "_library", lambda: None)
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    data = saved(NOISE, "JPEG")
    image = read(tmp_path, data)
    with Image.open(tmp_path / "i") as pillow:
        assert np.array_equal(image, np.asarray(pillow))
    with pytest.raises(UnreadableError, match=r"image .*i cannot be read \(image file is truncated"):
        read(tmp_path, data[: len(data) // 2])
