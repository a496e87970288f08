"""Smoothed and compressed labels are told from labels that merely have no name."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_seg.colours import default_palette
from lightning_seg.data.auditing.lossy import foreign_pixels, is_lossy
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.reading import StoredMask
from lightning_seg.structures import DatasetInfo
from tests.data.planted import COLOURS

SHAPE = (240, 320)
INFO = DatasetInfo(("a", "b", "c"), 255, default_palette(3))
COLOURED = {name: tuple(map(int, colour)) for name, colour in zip(("a", "b", "c", "ignore"), COLOURS, strict=True)}
TABLE = Labelling(INFO, {}, COLOURED, "refuse").table(None, "data.train")  # type: ignore[arg-type]


def drawing(*, coloured: bool, line: int = cv2.LINE_8) -> np.ndarray:
    """A disc and polygons of three labels, with an ignored frame."""
    values = [tuple(map(int, colour)) for colour in COLOURS] if coloured else [(0,), (1,), (2,), (255,)]
    mask = np.zeros((*SHAPE, len(values[0])), np.uint8)
    mask[:] = values[3]
    cv2.fillPoly(mask, [np.array([[6, 10], [313, 4], [309, 233], [9, 228]])], values[0], line)
    cv2.circle(mask, (90, 120), 60, values[1], -1, line)
    cv2.fillPoly(mask, [np.array([[180, 30], [300, 110], [200, 210]])], values[2], line)
    return mask if coloured else mask[..., 0]


def verdict(mask: np.ndarray) -> bool | None:
    """None where nothing is foreign."""
    stored = StoredMask(colours=mask) if mask.ndim == 3 else StoredMask(values=mask)
    _, foreign = TABLE.look_up(stored, Path("m.png"))
    if not foreign:
        return None
    assert foreign_pixels(stored, foreign).sum() == sum(foreign.values())
    return is_lossy(stored, foreign)


def through_jpeg(mask: np.ndarray, quality: int = 90) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_UNCHANGED)


SMOOTHINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "reduced": lambda mask: cv2.resize(mask, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA),
    "doubled": lambda mask: cv2.resize(mask, None, fx=2, fy=2),
    "enlarged": lambda mask: cv2.resize(mask, None, fx=5, fy=5),
    "cubic": lambda mask: cv2.resize(mask, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC),
    "turned": lambda mask: cv2.warpAffine(mask, cv2.getRotationMatrix2D((160, 120), 9, 1), SHAPE[::-1]),
    "blurred": lambda mask: cv2.GaussianBlur(mask, (0, 0), 4),
}


@pytest.mark.parametrize("coloured", [True, False], ids=["colours", "values"])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_smoothed(smoothing: str, coloured: bool) -> None:
    assert verdict(SMOOTHINGS[smoothing](drawing(coloured=coloured)))


def test_drawn_with_anti_aliasing() -> None:
    assert verdict(drawing(coloured=True, line=cv2.LINE_AA))


@pytest.mark.parametrize("quality", [75, 95])
def test_once_a_jpeg(quality: int) -> None:
    assert verdict(through_jpeg(drawing(coloured=True), quality))
    assert verdict(through_jpeg(drawing(coloured=False), quality))


@pytest.mark.parametrize("coloured", [True, False], ids=["colours", "values"])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_labels_without_a_name(count: int, coloured: bool) -> None:
    mask = drawing(coloured=coloured)
    rng = np.random.default_rng(count)
    for label in range(count):
        row, column = rng.integers(10, (180, 260))
        value = (40 + 4 * label, 7 + label, 90) if coloured else 10 + 3 * label
        mask[row : row + 17, column : column + 12] = value
    assert verdict(mask) is False


def test_clean_masks_have_nothing_foreign() -> None:
    assert verdict(drawing(coloured=True)) is None
    assert verdict(drawing(coloured=False)) is None


def test_deep_values_and_palettes() -> None:
    deep = np.where(drawing(coloured=False) == 1, 40000, 0).astype(np.int32)
    assert verdict(deep) is False
    palette = np.zeros((6, 3), np.uint8)
    palette[:4] = COLOURS
    palette[4] = (9, 8, 7)
    indices = np.tile(np.arange(5, dtype=np.uint8), (20, 8))
    stored = StoredMask(values=indices, palette=palette)
    _, foreign = TABLE.look_up(stored, Path("m.png"))
    assert foreign == {(9, 8, 7): 160}
    assert np.array_equal(foreign_pixels(stored, foreign), indices == 4)


@pytest.mark.parametrize("coloured", [True, False], ids=["colours", "values"])
def test_a_large_mask_is_judged_by_where_its_foreign_labels_are(coloured: bool) -> None:
    """The drawing lies in a corner of a mask whose other parts are beyond reproach."""
    small = drawing(coloured=coloured)
    for mask, lossy in ((SMOOTHINGS["blurred"](small), True), (np.where(small == small.max(), 7, small), False)):
        large = np.zeros((1800, 2300, *small.shape[2:]), np.uint8)
        large[:] = COLOURS[0] if coloured else 0
        large[1500:1740, 1900:2220] = mask
        assert verdict(large) is lossy
