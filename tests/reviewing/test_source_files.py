"""Sources without a mask file for each image: their own readers ignore exactly the accepted pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg import SegmentationDataModule
from lightning_seg.data import Coco, Labelme, MaskPerClass
from lightning_seg.data.readers.reader import Reader
from lightning_seg.data.stored import read_whole
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.reviewing.decisions import Decisions
from lightning_seg.reviewing.masks import write_ignored
from lightning_seg.reviewing.regions import encode
from lightning_seg.structures import Annotations, Sample
from tests.data import layouts

SIZE = layouts.SIZE
REGION = np.zeros(SIZE, bool)
REGION[1:5, 2:8] = True
REGION[2, 3:5] = False  # a hole
STEMS = ["one", "two"]


def labels_of(root: Path, reader: Reader, **settings: Any) -> dict[str, Any]:
    listing = SegmentationDataModule(None, reader, root=str(root), **settings).listings.complete("train")
    return {sample.name: read_whole(sample, listing.table_of(sample))[1] for sample in listing.samples}


def ignore(root: Path, reader: Reader, region: Any = REGION, **settings: Any) -> tuple[int, int]:
    data = SegmentationDataModule(None, reader, root=str(root), **settings)
    decisions = Decisions("train", {}, {"one": [encode(region, 0, 0, region.shape)]})
    return write_ignored(decisions, data.listings.complete("train"), root / "new", data.root)


def check(root: Path, before: Reader, after: Reader, files: int, region: Any = REGION, **settings: Any) -> None:
    """Nothing but the region of one image is newly ignored, and no original has changed."""
    originals = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    old = labels_of(root, before, **settings)
    assert (old["one"][region] != 255).any()
    assert ignore(root, before, region, **settings) == (files, 1)
    assert {path: path.read_bytes() for path in originals} == originals
    new = labels_of(root, after, **settings)
    assert new.keys() == old.keys()
    for name, labels in old.items():
        assert np.array_equal(new[name], np.where(region & (name == "one"), 255, labels)), name


def regions(entries: list[tuple[int, Any, int]], categories: dict[int, str]) -> dict[str, Any]:
    """COCO's content of two images of 20×16, whose first has annotations: category, rectangle (x, y, w, h), crowd."""
    annotations = []
    for number, (category, (x, y, w, h), crowd) in enumerate(entries):
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        one = {"id": number, "image_id": 7, "category_id": category, "segmentation": polygon, "iscrowd": crowd}
        annotations.append({**one, "note": "kept"})
    images = [{"id": 7 + 2 * place, "file_name": f"{name}.png"} for place, name in enumerate(STEMS)]
    names = [{"id": number, "name": name} for number, name in categories.items()]
    return {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": names}


def test_coco_of_run_lengths(tmp_path: Path) -> None:
    before = layouts.coco(tmp_path, STEMS)
    check(tmp_path, before, Coco("new/all.json", "i", background=None), 1)


@pytest.mark.parametrize("label_map", [{}, {"tree": "ignore"}, {"house": "house", "rest": "car"}])
def test_regions_below_and_above_others_in_coco(tmp_path: Path, label_map: dict[str, str]) -> None:
    entries = [(3, (2, 2, 14, 11), 0), (3, (4, 4, 3, 3), 0), (3, (6, 5, 3, 3), 0), (5, (0, 0, 20, 16), 1)]
    content = regions(entries, {3: "car", 5: "tree", 8: "house"})
    for name in STEMS:
        Image.new("RGB", (20, 16)).save(tmp_path / f"{name}.png")
    (tmp_path / "some").mkdir()
    (tmp_path / "some/all.json").write_text(json.dumps(content))
    region = np.zeros((16, 20), bool)
    region[3:15, 1:18] = True  # larger than all small ones, over them, the large one and the crowd
    settings = {"label_map": label_map} if label_map else {}
    check(tmp_path, Coco("some/all.json", "."), Coco("new/some/all.json", "."), 1, region, **settings)
    written = json.loads((tmp_path / "new/some/all.json").read_text())
    assert written["annotations"][: len(entries)] == content["annotations"]
    assert (written["info"], written["images"]) == (content["info"], content["images"])
    added = written["annotations"][len(entries) :]
    assert sum(one["area"] for one in added) == region.sum()
    assert len({one["id"] for one in written["annotations"]}) == len(written["annotations"])
    names = [one["name"] for one in written["categories"]]
    assert names == ["car", "tree", "house", *([] if label_map.get("tree") else ["ignore"])]


def test_labelme(tmp_path: Path) -> None:
    check(tmp_path, layouts.labelme(tmp_path, STEMS), Labelme("new/d", "d", background=None), 2)


def test_labelme_without_a_stated_size(tmp_path: Path) -> None:
    shape = {"label": "car", "points": [[1, 1], [18, 2], [10, 14]], "shape_type": "polygon"}
    for name in STEMS:
        Image.new("RGB", (20, 16)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.json").write_text(json.dumps({"imagePath": f"{name}.png", "shapes": [shape]}))
    region = np.zeros((16, 20), bool)
    region[0:9, 5:20] = True
    check(tmp_path, Labelme(".", skip=["*.png"]), Labelme("new", ".", unannotated="skip"), 2, region)
    written = json.loads((tmp_path / "new/one.json").read_text())
    assert (written["shapes"][0], written["shapes"][1]["label"]) == (shape, "__ignore__")
    assert (tmp_path / "new/two.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_class_files_where_nothing_is_ignored(tmp_path: Path) -> None:
    before = layouts.mask_per_class(tmp_path, STEMS)
    after = MaskPerClass(
        "d", "new/d", mask_name="{stem}_{class}.png", rest=None, missing="absent", image_suffixes=[".jpg"]
    )
    files = len(list((tmp_path / "d").glob("*.png")))
    check(tmp_path, before, after, files)


def class_files(root: Path, names: list[str], mode: str = "L") -> None:
    rows = np.arange(16)[:, None] + np.zeros((1, 20), int)
    (root / "images").mkdir()
    for name in names:
        (root / "masks" / name).mkdir(parents=True)
    for stem in STEMS:
        Image.new("RGB", (20, 16)).save(root / f"images/{stem}.png")
        for number, name in enumerate(names):
            covered = Image.fromarray((rows // 4 == number).astype(np.uint8) * 255)
            covered.convert(mode).save(root / f"masks/{name}/{stem}.png")


@pytest.mark.parametrize(
    ("names", "mode", "settings", "files"),
    [
        (["car", "tree"], "L", {}, 6),
        (["car", "tree"], "1", {}, 6),
        (["car", "tree"], "RGB", {}, 6),
        (["car", "void"], "L", {"label_map": {"void": "ignore"}}, 4),
        (["car", "ignore"], "1", {}, 4),
    ],
)
def test_class_files_with_an_ignored_class(
    tmp_path: Path, names: list[str], mode: str, settings: dict[str, Any], files: int
) -> None:
    class_files(tmp_path, names, mode)
    region = np.zeros((16, 20), bool)
    region[2:11, 3:12] = True
    check(tmp_path, MaskPerClass("images", "masks"), MaskPerClass("images", "new/masks"), files, region, **settings)
    assert Image.open(tmp_path / "new/masks/car/one.png").mode == mode


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path: Path) -> None:
    load = layouts.catalog_of_annotations(tmp_path, STEMS)
    with pytest.raises(DataError, match=r"one: its labels are regions of data set .*, which no file holds: mend them"):
        ignore(tmp_path, load)
    assert not (tmp_path / "new").exists()


def test_originals_of_annotations_stay(tmp_path: Path) -> None:
    reader = layouts.coco(tmp_path, STEMS)
    data = SegmentationDataModule(None, reader, root=str(tmp_path))
    decisions = Decisions("train", {}, {"one": [encode(REGION, 0, 0, SIZE)]})
    with pytest.raises(ConfigError, match=r"would write over .*all.json: give a new folder"):
        write_ignored(decisions, data.listings.complete("train"), tmp_path, data.root)


def test_a_damaged_annotation_file_is_named(tmp_path: Path) -> None:
    reader = layouts.coco(tmp_path, STEMS)
    data = SegmentationDataModule(None, reader, root=str(tmp_path))
    listing = data.listings.complete("train")
    (tmp_path / "all.json").write_text("{")
    sample: Sample = listing.samples[0]
    assert isinstance(sample.mask, Annotations)
    with pytest.raises(DataError, match=r"all.json has changed since it was listed: it is no JSON"):
        write_ignored(
            Decisions("train", {}, {"one": [encode(REGION, 0, 0, SIZE)]}), listing, tmp_path / "new", data.root
        )
