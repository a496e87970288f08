"""A small data set without a defect, and a hand that plants one of each kind in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.data.reading.files import tiff

CLASSES = ["wall", "door", "window"]
SIZE = (48, 64)
COUNT = {"train": 6, "val": 4, "test": 3}
PALETTE = {"wall": "#c02020", "door": "#20c020", "window": "#2020c0", "ignore": "#000000"}
COLOURS = np.array([[192, 32, 32], [32, 192, 32], [32, 32, 192], [0, 0, 0]], np.uint8)

Plant = Callable[[Path], Path]
"""Spoils something below the root and returns the path that the audit must name."""


def ids(seed: int) -> np.ndarray:
    """Walls with a door, a window and an ignored corner."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SIZE, np.uint8)
    row, column = rng.integers(4, 12, 2)
    mask[row : row + 16, column : column + 16] = 1
    cv2.circle(mask, (int(column) + 36, int(row) + 18), 9, 2, thickness=-1)
    mask[-6:, -6:] = 255
    return mask


def pixels(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng([seed, 7]).integers(0, 256, (*size, 3), np.uint8)


def build(root: Path, *, colours: bool = False) -> Path:
    """Write ``images/*.png`` and ``masks/*.png`` of ``train``, ``val`` and ``test``; no two images are equal."""
    for number, (split, count) in enumerate(COUNT.items()):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            seed = 100 * number + index
            Image.fromarray(pixels(seed)).save(root / split / "images" / f"{index}.png")
            mask = ids(seed)
            Image.fromarray(as_colours(mask) if colours else mask).save(root / split / "masks" / f"{index}.png")
    return root


def as_colours(mask: np.ndarray) -> np.ndarray:
    return COLOURS[np.where(mask == 255, 3, mask)]


def truncated_image(root: Path) -> Path:
    return cut(root / "train/images/0.png")


def truncated_mask(root: Path) -> Path:
    return cut(root / "val/masks/1.png")


def truncated_jpeg_mask(root: Path) -> Path:
    return cut(jpeg_mask(root))


def empty_image(root: Path) -> Path:
    (root / "train/images/1.png").write_bytes(b"")
    return root / "train/images/1.png"


def damaged_jpeg(root: Path) -> Path:
    """Zeroed in its middle, which most programs show with a grey end."""
    path = root / "train/images/1.jpg"
    Image.fromarray(pixels(11)).save(path, quality=95)
    path.with_suffix(".png").unlink()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :])
    return path


def flipped_bit(root: Path) -> Path:
    """One bit of an image's compressed pixels."""
    return flip(root / "train/images/2.png")


def flipped_bit_of_mask(root: Path) -> Path:
    return flip(root / "val/masks/1.png")


def deep_image(root: Path) -> Path:
    path = root / "train/images/3.png"
    Image.fromarray(pixels(3)[..., 0].astype(np.uint16) * 16).save(path)
    return path


def image_of_many_bands(root: Path) -> Path:
    path = root / "train/images/3.tif"
    path.write_bytes(tiff(np.zeros((*SIZE, 12), np.uint8)))
    path.with_suffix(".png").unlink()
    return path


def image_of_two_pages(root: Path) -> Path:
    path = root / "val/images/3.tif"
    path.write_bytes(tiff(pixels(3), pixels(4)))
    path.with_suffix(".png").unlink()
    return path


def lossy_tiff_mask(root: Path) -> Path:
    path = root / "train/masks/3.png"
    Image.open(path).save(path, "TIFF", compression="jpeg")
    return path


def orphan_image(root: Path) -> Path:
    Image.fromarray(pixels(900)).save(root / "train/images/lonely.png")
    return root / "train/images/lonely.png"


def orphan_mask(root: Path) -> Path:
    Image.fromarray(ids(1)).save(root / "val/masks/lonely.png")
    return root / "val/masks/lonely.png"


def size_mismatch(root: Path) -> Path:
    return edit(root / "train/masks/2.png", lambda mask: mask[:-1])


def unknown_id(root: Path) -> Path:
    return edit(root / "val/masks/2.png", lambda mask: put(mask, 77))


def unknown_colour(root: Path) -> Path:
    return edit(root / "val/masks/2.png", lambda mask: put(mask, (1, 2, 3)))


def jpeg_mask(root: Path) -> Path:
    path = root / "train/masks/3.png"
    Image.open(path).convert("L").save(path, "JPEG")
    return path


def jpeg_mask_by_name(root: Path) -> Path:
    path = root / "train/masks/3.png"
    Image.open(path).convert("L").save(path.with_suffix(".jpg"))
    path.unlink()
    return path.with_suffix(".jpg")


def blurred_mask(root: Path) -> Path:
    return edit(root / "train/masks/4.png", lambda mask: cv2.GaussianBlur(mask, (0, 0), 1.2))


def enlarged_mask(root: Path) -> Path:
    return edit(root / "train/masks/4.png", lambda mask: cv2.resize(mask[::4, ::4], SIZE[::-1]))


def laundered_mask(root: Path) -> Path:
    """Saved as JPEG once, and as PNG again."""

    def launder(mask: np.ndarray) -> np.ndarray:
        return cv2.imdecode(cv2.imencode(".jpg", mask)[1], cv2.IMREAD_UNCHANGED)

    return edit(root / "train/masks/4.png", launder)


def translucent_mask(root: Path) -> Path:
    def soften(mask: np.ndarray) -> np.ndarray:
        alpha = np.full((*SIZE, 1), 255, np.uint8)
        alpha[3, :10] = 128
        return np.concatenate([mask, alpha], axis=2)

    return edit(root / "train/masks/4.png", soften)


def absent_class(root: Path) -> Path:
    for path in sorted((root / "val/masks").iterdir()):
        edit(path, lambda mask: np.where(mask == 2, np.uint8(0), mask))
    return root / "val/masks"


def all_ignored(root: Path) -> Path:
    return edit(root / "test/masks/0.png", lambda mask: np.full_like(mask, 255))


def exif_rotation(root: Path) -> Path:
    """As a phone stores it, with a mask of the stored size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "val/images/3.png").save(root / "val/images/3.png", exif=exif)
    return root / "val/images/3.png"


def upside_down(root: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 3
    path = root / "val/images/3.jpg"
    Image.open(root / "val/images/3.png").save(path, exif=exif)
    path.with_suffix(".png").unlink()
    return path


def duplicate(root: Path) -> Path:
    return copied(root, "train/{}/5.png", "train/{}/6.png")


def leak(root: Path) -> Path:
    return copied(root, "train/{}/5.png", "test/{}/9.png")


def leak_in_another_format(root: Path) -> Path:
    copied(root, "train/{}/5.png", "val/{}/9.png")
    Image.open(root / "val/images/9.png").save(root / "val/images/9.bmp")
    (root / "val/images/9.png").unlink()
    return root / "val/images/9.bmp"


def copied(root: Path, source: str, target: str) -> Path:
    for kind in ("images", "masks"):
        shutil.copy(root / source.format(kind), root / target.format(kind))
    return root / target.format("images")


def cut(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])
    return path


def flip(path: Path) -> Path:
    """Turn one bit in the middle of a PNG's pixels."""
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT")
    data[(start + len(data)) // 2] ^= 4
    path.write_bytes(data)
    return path


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    return path


def put(mask: np.ndarray, label: int | tuple[int, int, int]) -> np.ndarray:
    changed = mask.copy()
    changed[:3, 20:30] = label
    return changed


def coco(root: Path, *extra: object) -> Path:
    """``all.json`` with two images, a square on each, and more annotations ``(image, category, segmentation)``."""
    (root / "i").mkdir(parents=True)
    images, annotations = [], []
    for index in range(2):
        Image.fromarray(pixels(500 + index)).save(root / "i" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": SIZE[0], "width": SIZE[1]})
    square = [[5, 5, 25, 5, 25, 25, 5, 25]]
    for number, (image, category, shape) in enumerate([(0, 1, square), (1, 1, square), *extra]):  # type: ignore[misc]
        annotations.append({"id": 10 + number, "image_id": image, "category_id": category, "segmentation": shape})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (root / "all.json").write_text(json.dumps(content))
    return root / "all.json"
