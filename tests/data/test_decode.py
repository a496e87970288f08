"""Images become RGB uint8, masks keep the values that are stored, and bad files are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.decode import check_ids, read_image, read_mask
from lightning_seg.errors import DataError

VALUES = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


def test_palette_mask_keeps_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(VALUES, mode="P")
    image.putpalette([value for index in range(256) for value in (255 - index, 38 * index % 256, 75)])
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), VALUES)


def test_16_bit_mask_keeps_its_values(tmp_path: Path) -> None:
    values = np.array([[0, 300], [40000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), values)


def test_1_bit_mask_is_zero_and_one(tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0]], bool)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), values)


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
    Image.fromarray(noise).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match=r"colour\.png has mode RGB"):
        read_mask(tmp_path / "colour.png")


def test_foreign_ids_are_named_and_counted() -> None:
    path = Path("masks/7.png")
    check_ids(VALUES, 3, 255, path)
    with pytest.raises(
        DataError, match=r"masks/7\.png has class id 2 in 2 pixels, 255 in 1 pixels, but .* 2 classes \(0 to 1\)"
    ):
        check_ids(VALUES, 2, 99, path)
    with pytest.raises(DataError, match="-4 in 1 pixels"):
        check_ids(np.array([[0, -4]], np.int32), 2, 255, path)
