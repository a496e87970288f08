"""Images become RGB uint8, masks keep the values that are stored, and bad files are named."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading import ImageFile, read_image, read_mask
from lightning_seg.errors import DataError

WHOLE = (slice(0, 1), slice(0, 1))
VALUES = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


def test_palette_mask_keeps_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(VALUES, mode="P")
    image.putpalette([value for index in range(256) for value in (255 - index, 38 * index % 256, 75)])
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, VALUES)


def test_16_bit_mask_keeps_its_values(tmp_path: Path) -> None:
    values = np.array([[0, 300], [40000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, values)


def test_1_bit_mask_is_zero_and_one(tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0]], bool)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, values)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "LA"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.fromarray(np.full((4, 6, 3), 255, np.uint8)).convert(mode).save(tmp_path / "i.tif")
    image = read_image(tmp_path / "i.tif")
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


def test_16_bit_image_keeps_its_upper_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0x1234], [0xFF00, 0xFFFF]], np.uint16)).save(tmp_path / "i.png")
    assert read_image(tmp_path / "i.png")[..., 0].tolist() == [[0, 0x12], [0xFF, 0xFF]]


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (8, 4)).save(tmp_path / "i.jpg", exif=exif)
    assert read_image(tmp_path / "i.jpg").shape == (8, 4, 3)


def test_bad_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "i.jpg")
    data = (tmp_path / "i.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(VALUES).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match=r"image .*half\.jpg cannot be read .*truncated"):
        read_image(tmp_path / "half.jpg")
    with pytest.raises(DataError, match=r"mask .*text\.png cannot be read"):
        read_mask(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"image .*none\.png does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"m\.jpg is a JPEG"):
        read_mask(tmp_path / "m.jpg")


def png(depth: int, kind: int, row: bytes, width: int, palette: bytes = b"") -> bytes:
    """A PNG of one row, written by the specification."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
    colours = chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + header + colours + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [(1, b"\x60", [0, 1, 1, 0]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x2f", [0, 1, 2, 15])],
)
@pytest.mark.parametrize("kind", [0, 3])
def test_shallow_masks_keep_their_values(tmp_path: Path, depth: int, row: bytes, values: list[int], kind: int) -> None:
    (tmp_path / "m.png").write_bytes(png(depth, kind, row, 4, bytes(range(48)) if kind == 3 else b""))
    stored = read_mask(tmp_path / "m.png").values
    assert stored is not None
    assert stored.tolist() == [values]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_colour_masks_keep_their_colours(tmp_path: Path, suffix: str) -> None:
    colours = np.array([[[255, 0, 0], [0, 0, 0]], [[0, 128, 64], [255, 0, 0]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / f"m.{suffix}")
    stored = read_mask(tmp_path / f"m.{suffix}")
    assert stored.values is None
    assert np.array_equal(stored.colours, colours)
    Image.fromarray(np.dstack([colours, np.full((2, 2), 7, np.uint8)])).save(tmp_path / "rgba.png")
    assert np.array_equal(read_mask(tmp_path / "rgba.png").colours, colours)


def test_formats_that_change_labels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(VALUES).convert("RGB").save(tmp_path / "m.webp", lossless=False)
    with pytest.raises(DataError, match=r"m\.webp is a lossy WebP, whose compression changes label values"):
        read_mask(tmp_path / "m.webp")
    Image.fromarray(VALUES).convert("RGB").save(tmp_path / "whole.webp", lossless=True)
    assert np.array_equal(read_mask(tmp_path / "whole.webp").colours[..., 0], VALUES)
    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    frames[0].save(tmp_path / "m.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"m\.gif has 2 frames"):
        read_mask(tmp_path / "m.gif")
    Image.fromarray(VALUES).convert("F").save(tmp_path / "m.tif")
    with pytest.raises(DataError, match=r"m\.tif has mode F: expected class ids"):
        read_mask(tmp_path / "m.tif")


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {"quality": 95}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0})],
)
def test_jpegs_decode_to_pillows_pixels(tmp_path: Path, mode: str, options: dict[str, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "i.jpg", **options)
    with Image.open(tmp_path / "i.jpg") as image:
        assert np.array_equal(read_image(tmp_path / "i.jpg"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("reduce", "shape"), [(2, (19, 27, 3)), (4, (10, 14, 3)), (8, (5, 7, 3))])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_jpegs_decode_at_a_fraction_of_their_size(
    tmp_path: Path, reduce: int, shape: tuple[int, int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.full((37, 53, 3), 90, np.uint8)).save(tmp_path / "i.jpg", exif=exif)
    reduced = ImageFile(tmp_path / "i.jpg").reduced(reduce)
    assert reduced.shape == ((shape[1], shape[0], 3) if orientation == 6 else shape)
    assert abs(reduced.astype(int) - 90).max() <= 1


@pytest.mark.parametrize("read", [read_image, lambda path: ImageFile(path).part(*WHOLE)])
def test_missing_files_are_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(DataError, match=r"image .*none\.jpg does not exist"):
        read(tmp_path / "none.jpg")
