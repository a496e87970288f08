"""TIFFs by windows: the pixels that whole images have, nodata, and what is refused."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading import ReadingRules, read_image
from lightning_seg.data.reading.display import as_shown
from lightning_seg.data.reading.tiff import is_georeferenced
from lightning_seg.errors import UnfitImageError, UnreadableError
from lightning_seg.geo import windows
from lightning_seg.geo.windows import WindowedImage
from tests.data.reading.files import tiff
from tests.geo.rasters import UTM, scene, write

H, W = 211, 173
COLOURS = {index: (index, 255 - index, index // 2) for index in range(256)}
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
LAYOUTS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "strips": (3, "uint8", {}),
    "tiles": (3, "uint8", {**TILED, "compress": "deflate", "predictor": 2}),
    "planes": (3, "uint8", {**TILED, "compress": "lzw", "interleave": "band"}),
    "big": (3, "uint8", {"BIGTIFF": "YES", "compress": "zstd", "blockysize": 16}),
    "one strip": (3, "uint8", {"blockysize": H, "compress": "deflate"}),
    "grey": (1, "uint8", {}),
    "palette": (1, "uint8", {"photometric": "palette"}),
    "palette of 4 bits": (1, "uint8", {"photometric": "palette", "NBITS": 4}),
    "1 bit": (1, "uint8", {"NBITS": 1}),
    "2 bits": (1, "uint8", {"NBITS": 2}),
    "4 bits": (1, "uint8", {"NBITS": 4}),
    "white is 0": (1, "uint8", {"photometric": "miniswhite"}),
    "white is 0, 2 bits": (1, "uint8", {"photometric": "miniswhite", "NBITS": 2}),
    "alpha": (4, "uint8", {"photometric": "rgb", "ALPHA": "YES"}),
    "grey and alpha": (2, "uint8", {"ALPHA": "YES"}),
    "georeferenced": (3, "uint8", {**UTM, "nodata": 0, "photometric": "rgb"}),
    "16 bits": (3, "uint16", {"photometric": "rgb"}),
    "16 bits, white is 0": (1, "uint16", {"photometric": "miniswhite"}),
    "12 bits in planes": (3, "uint16", {"interleave": "band", "NBITS": 12}),
    "signed": (1, "int16", {}),
    "float": (3, "float32", {"photometric": "rgb"}),
}
RULES = ReadingRules(((100.0, 3500.0),), max_pixels=H * W)


def values(bands: int, dtype: str, bits: int | None = None) -> np.ndarray:
    top = 2**bits if bits else 256 if dtype == "uint8" else 4000
    return np.random.default_rng(0).integers(0, top, (bands, H, W)).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_window_has_the_pixels_of_the_whole_image(layout: str, tmp_path: Path) -> None:
    bands, dtype, settings = LAYOUTS[layout]
    bits = settings.get("NBITS")
    colours = {i: COLOURS[i] for i in range(2 ** (bits or 8))} if "palette" in layout else None
    path = write(tmp_path / "a.tif", values(bands, dtype, bits), colours, **settings)
    whole = read_image(path, RULES)
    with WindowedImage(path, ReadingRules(RULES.ranges, max_pixels=1)) as image:  # which guards whole images
        assert image.shape == (3, H, W)
        for rows, columns in (
            (slice(0, H), slice(0, W)),
            (slice(61, 130), slice(60, 171)),
            (slice(210, 211), slice(3, 4)),
        ):
            window = image.window(rows, columns)
            np.testing.assert_array_equal(window.numpy().transpose(1, 2, 0), whole[rows, columns])


def test_colours_of_jpeg_differ_by_rounding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(H, W), photometric="ycbcr", compress="jpeg", **TILED)
    with WindowedImage(path) as image:
        window = image.window(slice(0, H), slice(0, W)).numpy().transpose(1, 2, 0)
    assert np.abs(window.astype(int) - read_image(path)).mean() < 2


def test_nodata_is_where_all_bands_have_it(tmp_path: Path) -> None:
    pixels = scene(H, W) | 1
    pixels[:, 20:30, 40:60] = 0
    pixels[1, 50:60] = 0  # black in one channel is a colour
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    with WindowedImage(path) as image:
        absent = image.nodata(slice(10, 60), slice(30, 100))
    expected = np.zeros((H, W), bool)
    expected[20:30, 40:60] = True
    assert absent is not None
    np.testing.assert_array_equal(absent, expected[10:60, 30:100])


def test_nodata_is_where_alpha_is_zero_or_a_value_is_nan(tmp_path: Path) -> None:
    rgba = np.full((4, H, W), 255, np.uint8)
    rgba[3, :5], rgba[3, 5:9] = 0, 7
    floats = np.ones((3, H, W), np.float32)
    floats[2, :5] = np.nan
    floats[:, 9] = -9999
    with WindowedImage(write(tmp_path / "a.tif", rgba, ALPHA="YES", photometric="rgb")) as image:
        of_alpha = image.nodata(slice(0, H), slice(0, W))
    with WindowedImage(write(tmp_path / "b.tif", floats, nodata=-9999), RULES) as image:
        of_floats = image.nodata(slice(0, H), slice(0, W))
    assert of_alpha is not None
    assert of_floats is not None
    assert np.flatnonzero(of_alpha.all(1)).tolist() == [*range(5)]
    assert of_alpha.sum() == 5 * W
    assert np.flatnonzero(of_floats.all(1)).tolist() == [*range(5), 9]
    assert of_floats.sum() == 6 * W


def test_a_file_without_nodata_has_none(tmp_path: Path) -> None:
    with WindowedImage(write(tmp_path / "a.tif", scene(H, W))) as image:
        assert image.nodata(slice(0, 9), slice(0, 9)) is None


def test_a_preview_is_the_image_in_small(tmp_path: Path) -> None:
    pixels = scene(400, 300)
    for name, settings in (("a", {}), ("b", {**TILED, "photometric": "rgb"})):
        with WindowedImage(write(tmp_path / f"{name}.tif", pixels, **settings)) as image:
            small = image.preview(100)
            assert image.preview(1000).shape == (400, 300, 3)
        assert small.shape == (100, 75, 3)
        assert np.abs(small.astype(int) - pixels.transpose(1, 2, 0)[2::4, 2::4]).mean() < 5


def test_another_process_opens_the_file_anew(tmp_path: Path) -> None:
    with WindowedImage(write(tmp_path / "a.tif", values(3, "uint16"), **UTM), RULES) as image:
        part = slice(3, 50), slice(9, 60)
        with pickle.loads(pickle.dumps(image)) as copy:
            assert (copy.window(*part) == image.window(*part)).all()
            assert copy.georeference == image.georeference


def test_a_geotiff_is_known_by_its_keys(tmp_path: Path) -> None:
    plain, geo = write(tmp_path / "a.tif", scene(H, W)), write(tmp_path / "b.tif", scene(H, W), **UTM)
    big = write(tmp_path / "c.tif", scene(H, W), BIGTIFF="YES", **UTM)
    Image.new("RGB", (8, 8)).save(tmp_path / "d.png")
    found = []
    for path in (plain, geo, big, tmp_path / "d.png"):
        with path.open("rb") as file:
            found.append(is_georeferenced(file))
    assert found == [False, True, True, False]


def test_the_georeference_is_read(tmp_path: Path) -> None:
    with WindowedImage(write(tmp_path / "a.tif", scene(H, W), **UTM)) as image:
        place = image.georeference
    assert place.crs is not None
    assert (place.crs.to_epsg(), place.transform) == (32632, UTM["transform"])
    with WindowedImage(write(tmp_path / "b.tif", scene(H, W))) as image:
        assert (image.georeference.crs, image.georeference.transform) == (None, None)


@pytest.mark.parametrize(
    ("pixels", "settings", "message"),
    [
        (values(5, "uint8"), {}, "has 5 bands of uint8, and networks take 3"),
        (values(3, "uint16"), {}, r"3 bands of uint16, in its middle with values from 0 to 3999, .* data\.value_range"),
        (values(3, "uint8", 4), {"NBITS": 4}, "has values of 4 bits, which cannot be read by windows"),
        (values(4, "uint8"), {"photometric": "cmyk"}, "is stored in inks, not in colours.*--model.inference null"),
    ],
)
def test_what_is_refused(pixels: np.ndarray, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels, **settings)
    with pytest.raises(UnfitImageError, match=f"image {path}.*{message}"):
        WindowedImage(path)


def test_what_must_be_turned_is_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(scene(40, 30).transpose(1, 2, 0))
    picture.save(tmp_path / "a.tif", tiffinfo={274: 6})
    with pytest.raises(UnfitImageError, match=r"is stored turned or mirrored.*store it upright"):
        WindowedImage(tmp_path / "a.tif")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UnfitImageError, match="has 2 pages, and one is expected"):
        WindowedImage(tmp_path / "a.tif")


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_LARGEST_BLOCK", 64 * 64 * 3 - 1)
    path = write(tmp_path / "a.tif", scene(H, W), **TILED)
    with pytest.raises(UnfitImageError, match=r"in blocks of 64×64 pixels.*gdal_translate -co TILED=YES.* a\.tif"):
        WindowedImage(path)


def test_damage_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values(3, "uint8"), compress="deflate", **TILED)
    data = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", data, 4)
    middle = len(data) // 2 if place < len(data) // 2 else place // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    with (
        WindowedImage(path) as image,
        pytest.raises(UnreadableError, match=rf"image {path} cannot be read \(.*: replace") as caught,
    ):
        image.window(slice(0, H), slice(0, W))
    assert "previous exception" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "missing.tif", "text.tif", "cut.tif"])
def test_what_is_no_tiff_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.png":
        Image.new("RGB", (8, 8)).save(path)
    elif name == "text.tif":
        path.write_text("no image")
    elif name == "cut.tif":
        path.write_bytes(write(tmp_path / "whole.tif", scene(H, W)).read_bytes()[:100])
    with pytest.raises(UnreadableError, match=f"image {path}"):
        WindowedImage(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float64"])
def test_bands_are_those_of_the_whole_image(tmp_path: Path, dtype: str) -> None:
    pixels = values(5, dtype).clip(1)
    pixels[:, 70:90, 80:100] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0, **TILED, **UTM)
    rules = ReadingRules(max_pixels=H * W, bands=(5, 1, 2, 4), fill=(1.0, 2.0, 3.0, 4.0))
    whole = read_image(path, rules)
    window = (slice(61, 130), slice(60, 171))
    with WindowedImage(path, rules) as image:
        assert image.shape == (4, H, W)
        part = image.window(*window).numpy()
        absent = image.nodata(*window)
    assert part.dtype == whole.dtype
    np.testing.assert_array_equal(part.transpose(1, 2, 0), whole[window])
    assert part[:, 9, 20].tolist() == [1, 2, 3, 4]
    assert np.array_equal(absent, (pixels == 0).all(0)[window])


def test_values_beyond_float32_are_absent(tmp_path: Path) -> None:
    pixels = values(2, "float64")
    pixels[1, 20, 30] = 1e300
    path = write(tmp_path / "a.tif", pixels, **UTM)
    with WindowedImage(path, ReadingRules(bands=(1, 2), fill=(1.5, 2.5))) as image:
        part, absent = image.window(slice(10, 40), slice(10, 50)), image.nodata(slice(10, 40), slice(10, 50))
    assert part[:, 10, 20].tolist() == [1.5, 2.5]
    assert np.argwhere(absent).tolist() == [[10, 20]]


def test_bands_of_a_value_range(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values(4, "uint16"), **UTM)
    rules = ReadingRules(((0, 4000),), bands=(4, 1))
    with WindowedImage(path, rules) as image:
        part = image.window(slice(3, 30), slice(5, 50)).numpy()
    assert part.dtype == np.uint8
    assert np.array_equal(part.transpose(1, 2, 0), read_image(path, rules)[3:30, 5:50])


def test_bands_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values(4, "uint16"), **UTM)
    with pytest.raises(UnfitImageError, match=r"has 4 bands of uint16, but data.bands asks for band 5"):
        WindowedImage(path, ReadingRules(bands=(5,)))


def test_pages_have_no_windows(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(*values(2, "uint16")))
    with pytest.raises(UnfitImageError, match=r"has 2 pages, which cannot be read by windows"):
        WindowedImage(tmp_path / "a.tif", ReadingRules(bands=(1, 2)))


def test_a_preview_of_bands_is_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values(4, "uint16"), **UTM)
    rules = ReadingRules(bands=(4, 3, 1), display_bands=(1, 3, 4))
    with WindowedImage(path, rules) as image:
        small, whole = image.preview(50), image.preview(1000)
    assert small.shape == (50, 41, 3)
    assert small.dtype == np.uint8
    assert np.array_equal(whole, as_shown(read_image(path, rules), rules))
