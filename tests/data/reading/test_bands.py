"""Bands are given as they are stored, to the bit, whatever format, type, compression and layout hold them."""

import io
import itertools
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from lightning_seg.data.archives.member import Member
from lightning_seg.data.archives.places import located
from lightning_seg.data.reading import ReadingRules, read_header, read_image, type_of_image
from lightning_seg.data.reading.absent import absent_pixels
from lightning_seg.data.reading.bands import Bands, BandsFile
from lightning_seg.data.reading.orientation import turn_upright
from lightning_seg.errors import ConfigError, DependencyError, UnfitImageError, UnreadableError
from tests.data.archiving import packed
from tests.data.reading.files import saved, tiff

SIZE = (67, 83)
WINDOWS = [(slice(0, 5), slice(0, 7)), (slice(30, 67), slice(12, 83)), (slice(15, 17), slice(15, 49))]
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "uint64", "float16"]
AS_STORED = {"uint8", "uint16", "int16", "float32"}


def values(bands: int, dtype: str, seed: int = 0) -> np.ndarray:
    """(H, W, bands) of all of a type's values, as far as float32 holds them."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (
            (rng.standard_normal((*SIZE, bands)) * 1000)
            .astype("float16" if dtype == "float16" else "float32")
            .astype(dtype)
        )
    bounds = np.iinfo(dtype)
    low, high = max(bounds.min, -(2**24)), min(bounds.max, 2**24)
    return rng.integers(low, high, (*SIZE, bands), endpoint=True).astype(dtype)


@dataclass(frozen=True)
class Kind:
    """A file of one kind.

    Attributes:
        name: of the test, and what follows the point in its name.
        pixels: what it stores.
        write: makes it of a path.
    """

    name: str
    suffix: str
    pixels: np.ndarray
    write: Callable[[Path], Any]


def geotiff(path: Path, pixels: np.ndarray, **options: Any) -> None:
    profile = {"driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": pixels.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, dtype=pixels.dtype, **options) as file:
            file.write(pixels.transpose(2, 0, 1))


def of_gdal(name: str, pixels: np.ndarray, **options: Any) -> Kind:
    return Kind(name, "tif", pixels, lambda path: geotiff(path, pixels, **options))


def of_bytes(name: str, suffix: str, pixels: np.ndarray, data: bytes) -> Kind:
    return Kind(name, suffix, pixels, lambda path: path.write_bytes(data))


def in_npy(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def kinds() -> list[Kind]:
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 32}
    found = []
    for dtype in TYPES[:-1]:
        for compression, (layout, options) in itertools.product(
            ["none", "lzw", "deflate", "zstd", "packbits", "lzma"],
            {"strips": {"blockysize": 5}, "tiles": tiled, "planar tiles": {**tiled, "interleave": "band"}}.items(),
        ):
            name = f"{dtype}, {compression}, {layout}"
            found.append(of_gdal(name, values(4, dtype), compress=compression, **options))
    for dtype, predictor in [("uint8", 2), ("uint16", 2), ("int32", 2), ("float32", 2), ("float32", 3), ("float64", 3)]:
        for interleave in ("pixel", "band"):
            options = {"compress": "deflate", "predictor": predictor, "interleave": interleave}
            found.append(of_gdal(f"{dtype}, predictor {predictor}, {interleave}", values(3, dtype), **options))
    found += [of_gdal(f"{bands} bands of uint16", values(bands, "uint16"), **tiled) for bands in (1, 2, 3, 5, 12, 130)]
    found += [
        of_gdal("BigTIFF", values(4, "uint16"), bigtiff="YES", compress="lzw"),
        of_gdal("big endian", values(4, "float32"), ENDIANNESS="BIG"),
        of_gdal("12 bits", values(4, "uint16") >> 4, nbits=12),
        of_gdal("1 bit", values(1, "uint8") & 1, nbits=1),
        of_gdal("white is zero", values(1, "uint16"), photometric="miniswhite"),
        of_gdal("lossless WebP", values(3, "uint8"), compress="webp", WEBP_LOSSLESS=True),
        of_gdal("the last is alpha", values(4, "uint16"), alpha="YES"),
        of_bytes("half floats", "npy", values(3, "float16"), in_npy(values(3, "float16"))),
        of_bytes("pages of one band", "tif", values(5, "uint16"),
                 tiff(*np.ascontiguousarray(values(5, "uint16").transpose(2, 0, 1)))),
        of_bytes("pages of two bands, big endian", "tif", values(4, "float32"),
                 tiff(*(np.ascontiguousarray(values(4, "float32")[..., at : at + 2]) for at in (0, 2)), order=">")),
        of_bytes("PNG, 8 bits", "png", values(3, "uint8"), saved(values(3, "uint8"), "PNG")),
        of_bytes("PNG, RGBA", "png", values(4, "uint8"), saved(values(4, "uint8"), "PNG")),
        of_bytes("PNG, grey", "png", values(1, "uint8"), saved(values(1, "uint8")[..., 0], "PNG")),
        of_bytes("PNG, grey and alpha", "png", values(2, "uint8"),
                 saved(Image.fromarray(values(2, "uint8"), "LA"), "PNG")),
        of_bytes("PNG, 1 bit", "png", values(1, "uint8") & 1,
                 saved(Image.fromarray((values(1, "uint8")[..., 0] & 1) * np.uint8(255)).convert("1"), "PNG")),
        of_bytes("WebP", "webp", values(3, "uint8"), saved(values(3, "uint8"), "WEBP", lossless=True)),
        of_bytes("BMP", "bmp", values(3, "uint8"), saved(values(3, "uint8"), "BMP")),
    ]  # fmt: skip
    for bands in (1, 3, 4):
        pixels = values(bands, "uint16")
        stored = pixels[..., [2, 1, 0, *range(3, bands)]] if bands > 1 else pixels
        found.append(of_bytes(f"PNG, 16 bits, {bands}", "png", pixels, cv2.imencode(".png", stored)[1].tobytes()))
    for dtype in TYPES:
        pixels = values(3, dtype)
        found.append(of_bytes(f"npy, {dtype}", "npy", pixels, in_npy(pixels)))
        found.append(of_bytes(f"npy, {dtype}, Fortran", "npy", pixels, in_npy(np.asfortranarray(pixels))))
        swapped = pixels.astype(pixels.dtype.newbyteorder(">"))
        found.append(of_bytes(f"npy, {dtype}, big endian", "npy", pixels, in_npy(swapped)))
    found.append(of_bytes("npy, (H, W)", "npy", values(1, "int16"), in_npy(values(1, "int16")[..., 0])))
    return found


KINDS = kinds()


def rules_of(bands: list[int], **more: Any) -> ReadingRules:
    return ReadingRules.of_settings(None, 10**6, bands, **more)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_round_trip(kind: Kind, tmp_path: Path) -> None:
    """All bands, some of them in another order, and windows; of a file, and of a member of a ZIP and of a TAR."""
    path = tmp_path / f"i.{kind.suffix}"
    kind.write(path)
    count = kind.pixels.shape[2]
    dtype = kind.pixels.dtype.name if kind.pixels.dtype.name in AS_STORED else "float32"
    everything, some = list(range(1, count + 1)), [count, 1] if count > 1 else [1]
    assert type_of_image(path, rules_of(some)) == dtype
    assert read_header(path, "image").samples in (count, None)
    expected = kind.pixels.astype(dtype)
    places = [path, *(located(packed({path.name: path.read_bytes()}, tmp_path / f"a.{form}") / path.name)
                      for form in ("zip", "tar"))]  # fmt: skip
    for place in places:
        for bands in (everything, some):
            image = read_image(place, rules_of(bands))
            assert image.dtype == dtype
            assert image.flags.c_contiguous
            assert image.flags.writeable
            np.testing.assert_array_equal(image, expected[..., [band - 1 for band in bands]], strict=True)
        file = BandsFile(place, rules_of(some))
        for window in WINDOWS if file.has_parts else []:
            np.testing.assert_array_equal(file.read(window).pixels, image[window], strict=True)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_jpeg_in_a_tiff_has_the_colours_of_other_programs(tmp_path: Path, interleave: str) -> None:
    smooth = cv2.resize(values(3, "uint8")[:4, :5], SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    options = {"photometric": "ycbcr"} if interleave == "pixel" else {}
    geotiff(tmp_path / "i.tif", smooth, compress="jpeg", interleave=interleave, JPEG_QUALITY=95, **options)
    image = read_image(tmp_path / "i.tif", rules_of([1, 2, 3]))
    assert np.abs(image.astype(int) - smooth).mean() < 3


def test_a_jpeg_and_a_palette_image(tmp_path: Path) -> None:
    smooth = cv2.resize(values(3, "uint8")[:4, :5], SIZE[::-1])
    (tmp_path / "i.jpg").write_bytes(saved(smooth, "JPEG"))
    assert np.array_equal(read_image(tmp_path / "i.jpg", rules_of([3, 1])), read_image(tmp_path / "i.jpg")[..., [2, 0]])
    indices = values(1, "uint8")[..., 0] % 8
    picture = Image.fromarray(indices, "P")
    picture.putpalette(bytes(range(24)))
    for form in ("png", "tif", "bmp"):
        picture.save(tmp_path / f"p.{form}")
        assert np.array_equal(read_image(tmp_path / f"p.{form}", rules_of([1]))[..., 0], indices)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_images(tmp_path: Path, orientation: int) -> None:
    pixels = values(2, "uint16")
    (tmp_path / "i.tif").write_bytes(tiff(pixels, tags={274: (3, [orientation]), 262: (3, [1])}))
    file = BandsFile(tmp_path / "i.tif", rules_of([2, 1]))
    assert not file.has_parts
    assert np.array_equal(file.whole(), turn_upright(pixels[..., ::-1], orientation))
    assert file.whole().shape[:2] == file.header.upright


def test_a_value_range_makes_bytes_of_any_number_of_bands(tmp_path: Path) -> None:
    pixels = values(4, "uint16")
    geotiff(tmp_path / "i.tif", pixels)
    rules = ReadingRules.of_settings([0, 65535], 10**6, [4, 1])
    image = read_image(tmp_path / "i.tif", rules)
    assert image.dtype.name == type_of_image(tmp_path / "i.tif", rules) == "uint8"
    assert np.array_equal(image, np.rint(pixels[..., [3, 0]] / 257))
    each = ReadingRules.of_settings([[0, 65535], [0, 6553.5]], 10**6, [4, 1])
    assert np.array_equal(read_image(tmp_path / "i.tif", each)[..., 1], np.rint(pixels[..., 0] / 25.7).clip(0, 255))


class TestAbsentPixels:
    FILL = (7.4, 9.6)

    def read(self, path: Path, bands: list[int], fill: tuple[float, ...] | None = FILL) -> Bands:
        return BandsFile(path, replace(rules_of(bands), fill=fill)).read()

    def test_nodata_of_all_bands_that_are_asked_for(self, tmp_path: Path) -> None:
        pixels = values(3, "uint16").clip(1)
        pixels[0, 0] = pixels[1, 1, 0] = pixels[2, 2, :2] = 0
        geotiff(tmp_path / "i.tif", pixels, nodata=0)
        found = self.read(tmp_path / "i.tif", [1, 2])
        assert found.absent is not None
        assert np.argwhere(found.absent).tolist() == [[0, 0], [2, 2]]
        assert found.pixels[0, 0].tolist() == [7, 10]  # rounded: values are whole numbers
        assert found.pixels[1, 1].tolist() == pixels[1, 1, :2].tolist()
        unfilled = self.read(tmp_path / "i.tif", [1, 2], fill=None)
        assert np.array_equal(unfilled.pixels, pixels[..., :2])
        assert np.array_equal(unfilled.absent, found.absent)

    @pytest.mark.parametrize("form", ["tif", "npy"])
    def test_values_that_are_no_numbers_in_any_band(self, tmp_path: Path, form: str) -> None:
        pixels = values(3, "float32")
        pixels[0, 1, 1], pixels[0, 2, 0], pixels[0, 3, 2] = np.nan, np.inf, np.nan
        if form == "tif":
            geotiff(tmp_path / "i.tif", pixels, nodata=np.nan)
        else:
            np.save(tmp_path / "i.npy", pixels)
        found = self.read(tmp_path / f"i.{form}", [1, 2])
        assert found.absent is not None
        assert np.argwhere(found.absent).tolist() == [[0, 1], [0, 2]]
        assert found.pixels[0, 1:3].tolist() == [np.float32(self.FILL).tolist()] * 2
        assert np.isfinite(found.pixels).all()

    def test_float64_beyond_float32(self, tmp_path: Path) -> None:
        pixels = values(1, "float64")
        pixels[3, 4] = 1e300
        geotiff(tmp_path / "i.tif", pixels)
        found = self.read(tmp_path / "i.tif", [1], (1.5,))
        assert found.pixels[3, 4] == 1.5
        assert found.absent is not None
        assert found.absent[3, 4]

    def test_float64_beyond_float32_beside_pixels_of_nodata(self, tmp_path: Path) -> None:
        """One band of a pixel has the nodata value, which no float32 holds; elsewhere, all bands have it."""
        pixels, nodata = values(2, "float64"), -1.7976931348623157e308
        pixels[0, 0], pixels[3, 4, 1] = nodata, nodata
        geotiff(tmp_path / "i.tif", pixels, nodata=nodata)
        found = self.read(tmp_path / "i.tif", [1, 2], (1.5, 2.5))
        assert found.absent is not None
        assert np.argwhere(found.absent).tolist() == [[0, 0], [3, 4]]
        assert found.pixels[3, 4].tolist() == [1.5, 2.5]
        assert np.isfinite(found.pixels).all()

    @pytest.mark.parametrize("nodata", [-3.4028234663852886e38, -9999])
    def test_nodata_of_floats(self, tmp_path: Path, nodata: float) -> None:
        pixels = values(1, "float32")
        pixels[3, 4] = nodata
        geotiff(tmp_path / "i.tif", pixels, nodata=nodata)
        assert self.read(tmp_path / "i.tif", [1], (1.5,)).pixels[3, 4] == 1.5

    @pytest.mark.parametrize("nodata", [-9999, 0.5, 256, np.nan, np.inf, None])
    def test_nodata_that_no_pixel_can_have(self, nodata: float | None) -> None:
        assert absent_pixels([np.array([[0, 255, 1, 241]], np.uint8)], [nodata]) is None

    def test_the_files_own_mask(self, tmp_path: Path) -> None:
        pixels = values(3, "uint16")
        geotiff(tmp_path / "i.tif", pixels)
        hidden = np.zeros(SIZE, bool)
        hidden[5:9, 6:11] = True
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "i.tif", "r+") as file:
            file.write_mask(~hidden)
        found = BandsFile(tmp_path / "i.tif", replace(rules_of([1, 3]), fill=self.FILL))
        assert np.array_equal(found.read().absent, hidden)
        assert np.array_equal(found.read((slice(7, 20), slice(3, 9))).absent, hidden[7:20, 3:9])

    def test_alpha_hides_unless_it_is_asked_for(self, tmp_path: Path) -> None:
        pixels = values(4, "uint16").clip(1)
        pixels[6, 7, 3] = 0
        pixels[8, 9, 3] = 1
        geotiff(tmp_path / "i.tif", pixels, photometric="rgb", alpha="YES")
        found = self.read(tmp_path / "i.tif", [1, 2])
        assert found.absent is not None
        assert np.argwhere(found.absent).tolist() == [[6, 7]]
        assert self.read(tmp_path / "i.tif", [1, 4]).absent is None

    def test_through_pages(self, tmp_path: Path) -> None:
        first, second = values(1, "uint8", 1)[..., 0].clip(1), values(1, "uint8", 2)[..., 0].clip(1)
        first[0, 0] = second[0, 0] = first[1, 1] = 0
        nodata = {42113: (2, [*b"0\0"])}
        (tmp_path / "i.tif").write_bytes(tiff(first, second, tags=nodata, later=nodata))
        found = self.read(tmp_path / "i.tif", [1, 2])
        assert found.absent is not None
        assert np.argwhere(found.absent).tolist() == [[0, 0]]

    def test_turned(self, tmp_path: Path) -> None:
        pixels = values(1, "uint8")[..., 0].clip(1)
        pixels[0, 5] = 0
        (tmp_path / "i.tif").write_bytes(tiff(pixels, tags={42113: (2, [*b"0\0"]), 274: (3, [6])}))
        found = self.read(tmp_path / "i.tif", [1], (99,))
        assert np.argwhere(found.absent).tolist() == [[5, SIZE[0] - 1]]
        assert found.pixels[5, SIZE[0] - 1] == 99


class TestRefusals:
    @pytest.mark.parametrize(
        ("bands", "shown", "message"),
        [
            ([], None, r"data.bands is \[\], but must name bands of the files, each once and counted from 1"),
            ([0, 1], None, r"data.bands is \[0, 1\], but must name bands"),
            ([2, 2], None, r"data.bands is \[2, 2\], but must name bands of the files, each once"),
            (None, [1], r"data.display_bands says which of data.bands pictures show: set data.bands, or leave it out"),
            ([1, 2, 3], [1, 4, 2], r"data.display_bands is \[1, 4, 2\], but must be three of data.bands \[1, 2, 3\]"),
            (
                [1, 2],
                [1, 2],
                r"data.display_bands is \[1, 2\], but must be three of data.bands \[1, 2\], or one of them",
            ),
        ],
    )
    def test_settings(self, bands: list[int] | None, shown: list[int] | None, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            ReadingRules.of_settings(None, 10**6, bands, shown)

    def test_a_range_a_band(self) -> None:
        with pytest.raises(ConfigError, match=r"data.value_range has 3 pairs, but data.bands names 2: give one pair"):
            ReadingRules.of_settings([[0, 1]] * 3, 10**6, [1, 2])

    @pytest.mark.parametrize("form", ["tif", "npy", "jpg", "png"])
    def test_too_few_bands(self, tmp_path: Path, form: str) -> None:
        write = {
            "tif": lambda path: geotiff(path, values(3, "uint8")),
            "npy": lambda path: np.save(path, values(3, "uint8")),
        }
        path = tmp_path / f"i.{form}"
        write.get(form, Image.fromarray(values(3, "uint8")).save)(path)
        with pytest.raises(
            UnfitImageError, match=rf"image {path} has 3 bands of uint8, but data.bands asks for band 4: "
        ):
            read_image(path, rules_of([1, 4]))

    def test_another_type_than_the_data_set(self, tmp_path: Path) -> None:
        geotiff(tmp_path / "i.tif", values(3, "int16"))
        with pytest.raises(
            UnfitImageError,
            match=r"i.tif has 3 bands of int16, but the images of this data set are read as uint16: convert it",
        ):
            read_image(tmp_path / "i.tif", replace(rules_of([1]), dtype="uint16"))

    def test_pages_that_differ(self, tmp_path: Path) -> None:
        first, second = Image.new("L", (4, 4)), Image.new("L", (5, 4))
        first.save(tmp_path / "i.tif", save_all=True, append_images=[second])
        with pytest.raises(
            UnfitImageError, match="has 2 pages that differ in size or type, so that its bands cannot be"
        ):
            read_image(tmp_path / "i.tif", rules_of([1]))

    def test_an_animation(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / "i.gif", save_all=True, append_images=frames[1:])
        with pytest.raises(UnfitImageError, match="has 2 frames"):
            read_image(tmp_path / "i.gif", rules_of([1]))

    def test_more_pixels_than_are_allowed(self, tmp_path: Path) -> None:
        np.save(tmp_path / "i.npy", np.zeros((100, 100), np.uint8))
        with pytest.raises(UnfitImageError, match=r"is 100×100 pixels, but data.max_pixels allows 9999"):
            read_image(tmp_path / "i.npy", ReadingRules.of_settings(None, 9999, [1]))

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.array([[None]]), r"it holds object, and images are whole numbers or floats"),
            (np.zeros((4, 4), complex), r"it holds complex128, and images are whole numbers or floats"),
            (np.zeros((4, 4), "U3"), r"it holds <U3, and images are"),
            (np.zeros((4, 4, 4, 4)), r"it is an array of shape \(4, 4, 4, 4\), and images are \(H, W\) or \(H, W, C\)"),
            (np.zeros((0, 4)), r"it is an array of shape \(0, 4\)"),
        ],
    )
    def test_arrays_that_are_no_images(self, tmp_path: Path, array: np.ndarray, message: str) -> None:
        np.save(tmp_path / "i.npy", array, allow_pickle=True)
        with pytest.raises(UnreadableError, match=rf"image .*i.npy cannot be read \({message}"):
            read_image(tmp_path / "i.npy", rules_of([1]))

    def test_a_huge_array_is_refused_before_memory_is_taken(self, tmp_path: Path) -> None:
        data = in_npy(np.zeros((4, 4), np.uint8)).replace(b"(4, 4)", b"(9999999, 99)").replace(b"}  ", b"}")
        data = data[:8] + len(data[10:-16]).to_bytes(2, "little") + data[10:]
        (tmp_path / "i.npy").write_bytes(data)
        with pytest.raises(UnreadableError, match=r"it is truncated: an array of shape \(9999999, 99\) of uint8 takes"):
            read_image(tmp_path / "i.npy", rules_of([1]))

    def test_a_header_that_is_no_header(self, tmp_path: Path) -> None:
        (tmp_path / "i.npy").write_bytes(b"\x93NUMPY\1\0\x10\0{'descr': __imp}")
        with pytest.raises(UnreadableError, match=r"i.npy cannot be read \(its header is damaged: "):
            read_image(tmp_path / "i.npy", rules_of([1]))

    def test_without_bands_an_array_is_no_image(self, tmp_path: Path) -> None:
        np.save(tmp_path / "i.npy", values(3, "uint8"))
        with pytest.raises(
            UnfitImageError, match=r"is a .npy file that has 3 bands of uint8: name those that .* data.bands"
        ):
            read_image(tmp_path / "i.npy")

    def test_complex_numbers_in_a_tiff(self, tmp_path: Path) -> None:
        geotiff(tmp_path / "i.tif", np.zeros((4, 5, 1), np.complex64))
        with pytest.raises(UnreadableError, match=r"i.tif cannot be read \(.*complex64"):
            read_image(tmp_path / "i.tif", rules_of([1]))

    def test_gdals_reason_is_told(self, tmp_path: Path) -> None:
        geotiff(tmp_path / "i.tif", values(3, "uint16"), compress="deflate")
        data = bytearray((tmp_path / "i.tif").read_bytes())
        data[-3000:] = bytes(3000)
        archive = packed({"i.tif": bytes(data)}, tmp_path / "a.zip")
        (tmp_path / "i.tif").write_bytes(data)
        for path in (tmp_path / "i.tif", located(archive / "i.tif")):
            with pytest.raises(UnreadableError, match=rf"image {path} cannot be read \((?!.*vsimem).*\): replace"):
                read_image(path, rules_of([1]))

    def test_the_missing_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        geotiff(tmp_path / "i.tif", values(3, "uint16"))
        for name in ("geotiff", "gdal"):
            monkeypatch.delitem(sys.modules, f"lightning_seg.data.reading.{name}", raising=False)
        monkeypatch.setitem(sys.modules, "rasterio", None)
        with pytest.raises(DependencyError, match=r"rasterio is not installed .*pip install 'lightning_seg\[geo\]'"):
            read_image(tmp_path / "i.tif", rules_of([1]))
        np.save(tmp_path / "i.npy", values(3, "uint16"))
        assert read_image(tmp_path / "i.npy", rules_of([1])).shape == (*SIZE, 1)


def test_the_bytes_of_a_source_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of a video is decoded then, a member of a ZIP inflated."""
    geotiff(tmp_path / "i.tif", values(3, "uint16"))
    Image.fromarray(values(3, "uint8")).save(tmp_path / "i.png")
    members = {name: (tmp_path / name).read_bytes() for name in ("i.tif", "i.png")}
    archive = packed(members, tmp_path / "a.zip")
    opened = []
    opening = Member.open
    monkeypatch.setattr(Member, "open", lambda member: [opened.append(member.name), opening(member)][1])
    for name in members:
        assert read_image(located(archive / name), rules_of([3])).shape == (*SIZE, 1)
    assert opened == ["i.tif", "i.png"]
