"""Regions are painted as pycocotools paints them, and what would harm it never gets there."""

import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from lightning_seg.colours import default_palette
from lightning_seg.data import Coco
from lightning_seg.data.labels import rasterise as rasterise_module
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.labels.rasterise import Region, rasterise, region_of
from lightning_seg.errors import DataError
from lightning_seg.structures import Annotations, DatasetInfo, Segment, SourceLabels

SIZE = (40, 60)
SQUARE = [[5, 5, 25, 5, 25, 25, 5, 25]]


def paint(*segments: Segment, rest: str | None = "background", size: tuple[int, int] | None = None) -> np.ndarray:
    names = ("background", "a", "b") if rest else ("a", "b")
    source = SourceLabels(names, {0: "a", 9: "b"}, {}, rest=rest)
    info = DatasetInfo(names, 255, default_palette(len(names)))
    table = Labelling(info, {}, {}, "refuse").table(source, "data.train")
    return rasterise(Annotations("a.json", segments, size), SIZE, table)


def test_small_regions_lie_over_large_ones_and_all_over_crowds() -> None:
    inner = [[10, 10, 15, 10, 15, 15, 10, 15]]
    whole = {"size": list(SIZE), "counts": [0, 2400]}
    small, large, crowd = Segment(1, 9, inner), Segment(2, 0, SQUARE), Segment(3, 9, whole, crowd=True)
    for order in itertools.permutations([small, large, crowd]):
        ids = paint(*order)
        assert (ids[12, 12], ids[7, 7], ids[35, 50]) == (2, 1, 2)
    tiny_crowd = Segment(4, 9, inner, crowd=True)
    assert paint(large, tiny_crowd)[12, 12] == 1


def test_the_rest_is_background_or_ignored() -> None:
    segment = Segment(1, 0, SQUARE)
    assert set(np.unique(paint(segment))) == {0, 1}
    assert set(np.unique(paint(segment, rest=None))) == {0, 255}
    assert set(np.unique(paint())) == {0}


def test_holes_are_those_of_run_lengths() -> None:
    ring = np.zeros(SIZE, np.uint8)
    ring[5:25, 5:25] = 1
    ring[10:15, 10:15] = 0
    encoded = coco_mask.encode(np.asfortranarray(ring))
    for counts in (encoded["counts"], encoded["counts"].decode()):
        assert np.array_equal(paint(Segment(1, 0, {"size": list(SIZE), "counts": counts})), ring)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "has no polygon"),
        ([], "has no polygon"),
        ([[1, 2, 3, 4]], r"polygon \[1, 2, 3, 4\]: expected \[x0, y0, x1, y1, …\], three points or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three points or more"),
        ([1, 2, 3, 4, 5, 6], "three points or more"),
        ([["a", 2, 3, 4, 5, 6]], "three points or more"),
        ([[1, 2, float("nan"), 4, 5, 6]], "a coordinate that is no number"),
        ([[1, 2, float("inf"), 4, 5, 6]], "a coordinate that is no number"),
        ([[1, 2, 1e9, 4, 5, 6]], r"reaches from 1 to 1e\+09, far outside its 60×40 image"),
        ([[1, 2, -3e5, 4, 5, 6]], "far outside"),
        ({"size": [60, 40], "counts": [0, 2400]}, r"run lengths for \[60, 40\] .*, but the image is \[40, 60\]"),
        ({"counts": [0, 2400]}, "run lengths for None"),
        ({"size": [40, 60], "counts": [0, 2399]}, "broken run lengths"),
        ({"size": [40, 60], "counts": [-5, 2405]}, "broken run lengths"),
        ({"size": [40, 60], "counts": []}, "broken run lengths"),
        ({"size": [40, 60]}, "broken run lengths"),
        ({"size": [40, 60], "counts": [0, 2400.5]}, "broken run lengths"),
        ({"size": [40, 60], "counts": [0, float("nan")]}, "broken run lengths"),
        ({"size": [40, 60], "counts": "`"}, "broken run lengths"),
        ({"size": [40, 60], "counts": "é"}, "broken run lengths"),
        ({"size": [40, 60], "counts": "0" * 50}, "broken run lengths"),
    ],
)  # fmt: skip
def test_hostile_annotations_are_refused_by_id(shape: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("frPyObjects", "decode", "merge"):
        monkeypatch.setattr(coco_mask, name, lambda *_: pytest.fail("reached pycocotools"))
    with pytest.raises(DataError, match=rf"a\.json, annotation 77 .*{message}"):
        paint(Segment(77, 0, shape))


def test_another_size_than_stated_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.json states 40×60 pixels, but the image has 60×40"):
        paint(size=(60, 40))


def mask_of(region: Region, size: tuple[int, int]) -> np.ndarray:
    columns = np.zeros(size[0] * size[1], np.uint8)
    region.paint(columns, 1)
    return columns.reshape(size[1], size[0]).T


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=12), st.integers(1, 9), st.sampled_from([0, 20_000]))
def test_run_lengths_are_read_as_pycocotools_writes_them(runs: list[int], height: int, few: int) -> None:
    runs.append(-sum(runs) % height)
    width = sum(runs) // height
    if width == 0:
        return
    size = (height, width)
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasterise_module, "_FEW_RUNS", few)  # both ways to paint
        for counts in (encoded["counts"], runs):
            region = region_of(Segment(1, 0, {"size": [height, width], "counts": counts}), size, "a.json")
            assert np.array_equal(mask_of(region, size), coco_mask.decode(encoded))
            assert region.pixels == coco_mask.area(encoded)


@given(
    st.lists(
        st.lists(st.lists(st.floats(-20, 80, width=32), min_size=6, max_size=6), min_size=1, max_size=3), max_size=6
    ),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_overlapping_polygons_are_painted_as_pycocotools_masks(
    shapes: list[list[list[float]]], crowds: list[bool]
) -> None:
    segments = [Segment(n, 9 * (n % 2), shape, crowds[n]) for n, shape in enumerate(shapes)]
    coco = COCO()
    coco.imgs = {1: {"height": SIZE[0], "width": SIZE[1]}}
    masks = [coco.annToMask({"image_id": 1, "segmentation": shape}) == 1 for shape in shapes]
    expected = np.zeros(SIZE, np.uint8)
    for segment, mask in sorted(
        zip(segments, masks, strict=True), key=lambda pair: (not pair[0].crowd, -int(pair[1].sum()))
    ):
        expected[mask] = 1 if segment.category == 0 else 2
    assert np.array_equal(paint(*segments), expected)


def test_many_large_regions_take_the_memory_of_one_image() -> None:
    """What every region's own mask would take: 80 times the image."""
    size = (800, 700)
    segments = [Segment(n, 0, [[n, 0, 700, n, 600, 800, 0, 700 - n]]) for n in range(80)]
    names = ("background", "a")
    table = Labelling(DatasetInfo(names, 255, default_palette(2)), {}, {}, "refuse").table(
        SourceLabels(names, {0: "a"}, {}, rest="background"), "data.train"
    )
    tracemalloc.start()
    try:
        rasterise(Annotations("a.json", tuple(segments)), size, table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * size[0] * size[1]


def test_real_masks_are_pycocotools(shared: Path) -> None:
    root = shared / "data" / "fruits_nuts_coco"
    coco = COCO(str(root / "data" / "trainval.json"))
    reader = Coco(annotations="data/trainval.json", images="data/images")
    source = reader.labels(root)
    assert source.names == ("background", "date", "fig", "hazelnut")
    table = Labelling(DatasetInfo(source.names, 255, default_palette(4)), {}, {}, "refuse").table(source, "data.train")
    by_name = {Path(image["file_name"]).stem: image for image in coco.imgs.values()}
    samples = reader.samples(root)
    assert len(samples) == 18
    for sample in samples:
        image = by_name[Path(sample.name).stem]
        size = (image["height"], image["width"])
        expected = np.zeros(size, np.uint8)
        masks = [(coco.annToMask(ann), ann["category_id"]) for ann in coco.imgToAnns[image["id"]]]
        for mask, category in sorted(masks, key=lambda pair: -int(pair[0].sum())):
            expected[mask == 1] = category
        assert isinstance(sample.mask, Annotations)
        assert np.array_equal(rasterise(sample.mask, size, table), expected)
