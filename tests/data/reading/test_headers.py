"""Headers say what decoders give: size and orientation of every format, by one rule."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading import ReadingRules, StoredMask, read_header, read_image, read_mask
from lightning_seg.errors import UnfitImageError, UnreadableError
from tests.data.reading.files import XMP, chunk, exif, jpeg_with, png, saved, tiff

SCENE = np.kron(np.array([[30, 90, 150], [60, 200, 240]], np.uint8), np.ones((16, 16), np.uint8))
"""2×3 grey squares of 16 pixels, no two alike."""
RGB = np.repeat(SCENE[..., None], 3, axis=2)

TURNED = {
    1: SCENE, 2: SCENE[:, ::-1], 3: SCENE[::-1, ::-1], 4: SCENE[::-1], 5: SCENE.T, 6: np.rot90(SCENE, -1),
    7: SCENE[::-1, ::-1].T, 8: np.rot90(SCENE),
}  # fmt: skip
"""What each orientation of EXIF's means, by NumPy."""

ROWS = [row.tobytes() for row in SCENE]


def in_jpeg(orientation: int) -> bytes:
    return jpeg_with(saved(SCENE, "JPEG"), b"Exif\0\0" + exif(orientation))


def in_jpeg_by_xmp(orientation: int) -> bytes:
    return jpeg_with(saved(SCENE, "JPEG"), b"http://ns.adobe.com/xap/1.0/\0" + XMP % orientation)


def in_long(orientation: int) -> bytes:
    return jpeg_with(saved(SCENE, "JPEG"), b"Exif\0\0" + exif(orientation, ">", 4))


def in_png(orientation: int) -> bytes:
    return png(8, 0, ROWS, SCENE.shape[1], chunk(b"eXIf", exif(orientation)))


def behind_png(orientation: int) -> bytes:
    return png(8, 0, ROWS, SCENE.shape[1], after=chunk(b"eXIf", exif(orientation, ">")))


def in_png_by_xmp(orientation: int) -> bytes:
    return png(8, 0, ROWS, SCENE.shape[1], chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % orientation))


def in_png_by_text(orientation: int) -> bytes:
    text = b"\nexif\n      26\n" + (b"Exif\0\0" + exif(orientation)).hex().encode()
    return png(8, 0, ROWS, SCENE.shape[1], chunk(b"tEXt", b"Raw profile type exif\0" + text))


def in_palette_png(orientation: int) -> bytes:
    image = Image.fromarray(SCENE, "P")
    image.putpalette([index for index in range(256) for _ in range(3)])
    return saved(image, "PNG", exif=exif(orientation))


def in_tiff(orientation: int) -> bytes:
    return tiff(SCENE, order=">", tags={274: (3, [orientation])})


def in_big_tiff(orientation: int) -> bytes:
    return tiff(SCENE, big=True, tags={274: (3, [orientation])})


def in_tiff_by_xmp(orientation: int) -> bytes:
    return tiff(SCENE, tags={700: (1, list(XMP % orientation))})


def in_webp(orientation: int) -> bytes:
    return saved(RGB, "WEBP", lossless=True, exif=exif(orientation))


def in_avif(orientation: int) -> bytes:
    return saved(RGB, "AVIF", quality=100, exif=exif(orientation))


FILES = [in_jpeg, in_jpeg_by_xmp, in_long, in_png, behind_png, in_png_by_xmp, in_png_by_text, in_palette_png, in_tiff,
         in_big_tiff, in_tiff_by_xmp, in_webp, in_avif]  # fmt: skip
LOSSLESS = [in_png, behind_png, in_palette_png, in_tiff, in_big_tiff, in_tiff_by_xmp]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("write", FILES)
def test_header_and_image_are_upright_alike(tmp_path: Path, write: object, orientation: int) -> None:
    path = tmp_path / "i"
    path.write_bytes(write(orientation))  # type: ignore[operator]
    header = read_header(path, "image")
    assert header.stored == SCENE.shape
    assert header.orientation == orientation
    assert header.upright == TURNED[orientation].shape
    image = read_image(path)
    assert image.shape == (*TURNED[orientation].shape, 3)
    assert np.abs(image.astype(int) - TURNED[orientation][..., None]).mean() < 3


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("write", LOSSLESS)
def test_masks_are_turned_as_their_image(tmp_path: Path, write: object, orientation: int) -> None:
    (tmp_path / "m").write_bytes(write(orientation))  # type: ignore[operator]
    stored = read_mask(tmp_path / "m")
    assert isinstance(stored, StoredMask)
    assert np.array_equal(stored.values, TURNED[orientation])


def test_exif_counts_before_xmp_and_nonsense_for_nothing(tmp_path: Path) -> None:
    plain = saved(SCENE, "JPEG")
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP % 6
    for expected, data in (
        (3, jpeg_with(jpeg_with(plain, xmp), b"Exif\0\0" + exif(3))),
        (1, jpeg_with(jpeg_with(plain, xmp), b"Exif\0\0" + exif(1))),
        (6, jpeg_with(jpeg_with(plain, xmp), b"Exif\0\0damaged")),
        (1, jpeg_with(plain, b"Exif\0\0" + exif(9))),
        (1, jpeg_with(plain, b"Exif\0\0" + exif(6)[:12])),
    ):
        (tmp_path / "i.jpg").write_bytes(data)
        assert read_header(tmp_path / "i.jpg", "image").orientation == expected
        assert read_image(tmp_path / "i.jpg").shape[:2] == (SCENE.shape[::-1] if expected == 6 else SCENE.shape)


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "JPEG", "AVIF"])
def test_corrupt_exif_harms_no_image(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(SCENE, "P") if kind == "PNG" else Image.fromarray(RGB)
    if kind == "PNG":
        image.putpalette([index for index in range(256) for _ in range(3)])
    (tmp_path / "i").write_bytes(saved(image, kind, exif=b"II*\0\xff\xff\xff\x7f" + bytes(30)))
    assert read_header(tmp_path / "i", "image").orientation == 1
    assert np.abs(read_image(tmp_path / "i").astype(int) - RGB).mean() < 3


def test_only_the_pages_of_a_tiff_are_pages(tmp_path: Path) -> None:
    overview, mask, page = ({254: (4, [kind])} for kind in (1, 4, 2))
    for pages, later in ((1, overview), (1, mask), (3, page), (3, {})):
        (tmp_path / "i.tif").write_bytes(tiff(SCENE, SCENE, SCENE, later=later))
        assert read_header(tmp_path / "i.tif", "image").pages == pages


def test_a_chain_of_pages_without_end_is_refused(tmp_path: Path) -> None:
    data = bytearray(tiff(SCENE))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    (tmp_path / "i.tif").write_bytes(data)
    with pytest.raises(UnreadableError, match=r"i\.tif cannot be read \(a chain of TIFF directories that has no end"):
        read_header(tmp_path / "i.tif", "image")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"II*\0\0\0\0\0", "a TIFF without a directory"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "a TIFF directory that is cut off"),
    ],
)
def test_a_tiff_without_pages_is_refused(start: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "i.tif").write_bytes(start)
    with pytest.raises(UnreadableError, match=rf"i\.tif cannot be read \({message}\)"):
        read_header(tmp_path / "i.tif", "image")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
def test_one_limit_for_header_and_decoder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "i"
    path.write_bytes(saved(RGB, kind, **({"lossless": True} if kind == "WEBP" else {})))
    pixels = SCENE.size
    rules = ReadingRules(max_pixels=pixels)
    assert read_header(path, "image", rules).stored == read_image(path, rules).shape[:2] == SCENE.shape
    small = ReadingRules(max_pixels=pixels - 1)
    for read in (lambda: read_header(path, "image", small), lambda: read_image(path, small)):
        with pytest.raises(
            UnfitImageError, match=rf"image .*i is 48×32 pixels, but data.max_pixels allows {pixels - 1}"
        ):
            read()
    with pytest.raises(UnfitImageError, match=rf"mask .*i is 48×32 pixels, but data.max_pixels allows {pixels - 1}"):
        read_mask(path, small)


def test_pillows_own_limit_does_not_count(tmp_path: Path) -> None:
    """It would refuse 180 megapixels as an attack."""
    size = (12_000, 15_000)
    assert size[0] * size[1] > 2 * 89_478_485
    (tmp_path / "m.png").write_bytes(saved(Image.new("1", size[::-1]), "PNG"))
    assert read_header(tmp_path / "m.png", "mask").stored == size
    assert read_mask(tmp_path / "m.png").size == size


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    for content, reason in (
        (b"", "it is none of JPEG, PNG, TIFF, WebP, GIF, BMP, PNM, JPEG 2000 and AVIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "it is none of JPEG"),
        (b"\xff\xd8\xff", "a JPEG that is truncated before its pixels"),
        (b"\xff\xd8\xff\xd9", "a JPEG without pixels"),
        (b"\x89PNG\r\n\x1a\n" + bytes(4), "a PNG without a header"),
        (b"II*\0\x08\0\0\0", "a TIFF directory that is cut off"),
        (png(8, 0, [b"\0"], 0), "it says that it is 0×1 pixels"),
    ):
        (tmp_path / "i").write_bytes(content)
        with pytest.raises(UnreadableError) as caught:
            read_header(tmp_path / "i", "image")
        assert str(caught.value).startswith(f"image {tmp_path / 'i'} cannot be read ({reason}")
        assert str(caught.value).endswith("): replace or remove it")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableError, match=r"folder cannot be read \(Is a directory\)"):
        read_header(tmp_path / "folder", "image")


def test_a_phones_second_picture_is_no_page(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    (tmp_path / "i.jpg").write_bytes(file.getvalue())
    header = read_header(tmp_path / "i.jpg", "image")
    assert (header.format, header.pages) == ("JPEG", 1)
    assert read_image(tmp_path / "i.jpg").shape == RGB.shape
