"""What each published format says of its labels, and how its reader refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from lightning_seg.data import ADE20K, VOC, CamVid, Catalog, Cityscapes, Coco, CocoStuff, Manifest
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Annotations
from tests.data.readers.files import CATEGORY, touch, write_coco


def test_labels_are_the_published_ones(tmp_path: Path) -> None:
    cityscapes = Cityscapes(root=".", split="val").labels(tmp_path)
    assert len(cityscapes.names) == 19
    assert (cityscapes.values[7], cityscapes.values[33], cityscapes.values[29]) == ("road", "bicycle", None)
    assert cityscapes.palette["road"] == (128, 64, 128)
    ade = ADE20K(root=".", split="val").labels(None)
    assert (len(ade.names), ade.values[0], ade.values[1], ade.values[150]) == (150, None, "wall", "flag")
    voc = VOC(root=".", split="val").labels(None)
    assert (len(voc.names), voc.values[15], voc.values[255]) == (21, "person", None)
    assert voc.palette["person"] == (192, 128, 128)
    camvid = CamVid(root=".", split="val").labels(None)
    assert (len(camvid.names), camvid.values[0], camvid.values[10], camvid.values[11]) == (11, "Sky", "Bicyclist", None)
    assert camvid.palette["Road"] == (128, 64, 128)
    stuff = CocoStuff(root=".", split="val2017").labels(None)
    assert (len(stuff.names), stuff.names[0], stuff.names[80], stuff.names[170]) == (171, "person", "banner", "wood")
    assert (stuff.values[0], stuff.values[89], stuff.values[91], stuff.values[181]) == (
        "person", "toothbrush", "banner", "wood",
    )  # fmt: skip
    assert 11 not in stuff.values  # street sign, which COCO does not annotate


def test_cityscapes_masks_are_the_published_ones_where_both_kinds_are(tmp_path: Path) -> None:
    touch(tmp_path, "leftImg8bit/val/a_leftImg8bit.png", "gtFine/val/a_gtFine_labelTrainIds.png")
    reader = Cityscapes(root=".", split="val")
    assert reader.labels(tmp_path).values[0] == "road"
    touch(tmp_path, "gtFine/val/a_gtFine_labelIds.png")
    assert reader.labels(tmp_path).values[7] == "road"
    (sample,) = reader.samples(tmp_path)
    assert sample.mask == tmp_path / "gtFine/val/a_gtFine_labelIds.png"


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (Cityscapes(root=".", split="trian"), r"gtFine/trian does not exist: in .* there is val;|leftImg8bit/trian"),
        (ADE20K(root=".", split="train"), r"images/training does not exist: in .* there is validation"),
        (VOC(root=".", split="dev"), r"dev\.txt does not exist: in .* there is trainaug, val"),
        (CocoStuff(root=".", split="train2017"), r"train2017 does not exist"),
        (CamVid(root="images", split="train"), r"images/train does not exist: in .* there is validation"),
    ],
)
def test_a_missing_split_names_those_that_are_there(reader: Any, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "leftImg8bit/val/x", "gtFine/val/x", "images/validation/x", "annotations/validation/x")
    touch(tmp_path, "ImageSets/Segmentation/val.txt", "ImageSets/Segmentation/trainaug.txt")
    with pytest.raises(DataError, match=message):
        reader.samples(tmp_path)


def test_vocs_extra_annotations(tmp_path: Path) -> None:
    touch(tmp_path, "JPEGImages/a.jpg", "SegmentationClassAug/a.png")
    touch(tmp_path, "ImageSets/Segmentation/trainaug.txt")
    (tmp_path / "ImageSets/Segmentation/trainaug.txt").write_text("a\n")
    (sample,) = VOC(root=".", split="trainaug").samples(tmp_path)
    assert sample.mask == tmp_path / "SegmentationClassAug/a.png"


def test_mmsegmentations_layout_of_coco_stuff(tmp_path: Path) -> None:
    touch(tmp_path, "images/val2017/a.jpg", "annotations/val2017/a.png", "annotations/val2017/a_labelTrainIds.png")
    (sample,) = CocoStuff(root=".", split="val2017").samples(tmp_path)
    assert sample.mask == tmp_path / "annotations/val2017/a.png"


IMAGE = {"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"all\.json cannot be read as JSON"),
        ("[]", r"all\.json is no COCO file: a part of it is of another kind"),
        ({"images": [IMAGE]}, "is no COCO file: something in it lacks 'categories'"),
        ({"images": [], "categories": [CATEGORY]}, "lists no image"),
        (
            {"images": [{**IMAGE, "file_name": "b.jpg"}], "categories": [CATEGORY]},
            r"1 of 1 images .*: .*b\.jpg does not exist: check data\.root and the reader.s images",
        ),
        (
            {"images": [IMAGE], "categories": [CATEGORY], "annotations": [{"id": 9, "image_id": 2, "category_id": 1}]},
            "annotation 9 belongs to image 2, which the file does not list: add it to the file's images, or remove",
        ),
        (
            {"images": [IMAGE], "categories": [CATEGORY], "annotations": [{"id": 9, "image_id": 1, "category_id": 3}]},
            "annotation 9 has category 3, but the file lists 1: add it to the file's categories, or remove the annot",
        ),
        (
            {"images": [IMAGE], "categories": [{"id": "c1", "name": "a"}]},
            r"the id of category 'a', and so its annotations' category_id, is 'c1': expected a whole number",
        ),
        ({"images": [IMAGE], "categories": [{"id": 1.5, "name": "a"}]}, "is 1.5: expected a whole number"),
        (
            {
                "images": [IMAGE],
                "categories": [CATEGORY],
                "annotations": [{"id": 9, "image_id": 1, "category_id": "x"}],
            },
            "annotation 9: its category_id is 'x': expected a whole number",
        ),
        (
            {"images": [{**IMAGE, "height": "x"}], "categories": [CATEGORY]},
            "image 1: its height is 'x': expected a whole number",
        ),
        (
            {"images": [{**IMAGE, "file_name": None}], "categories": [CATEGORY]},
            "image 1: its file_name is None: expected",
        ),
        (
            {"images": [IMAGE, {**IMAGE, "file_name": "b.jpg"}], "categories": [CATEGORY]},
            r"all\.json has image id 1 more than once: give each image an id of its own",
        ),
        (
            {"images": [IMAGE, {**IMAGE, "id": 5, "file_name": "./a.jpg"}], "categories": [CATEGORY]},
            r"lists .*a\.jpg twice, as images 1 and 5: give all its annotations one image_id and remove the other",
        ),
        (
            {"images": [IMAGE], "categories": [CATEGORY, {"id": 1, "name": "b"}]},
            r"all\.json has category id 1 more than once: give each category an id of its own",
        ),
    ],
)
def test_coco_refuses(content: Any, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "all.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=message):
        Coco(annotations="all.json", images=".").samples(tmp_path)


@pytest.mark.parametrize(("height", "size"), [(None, None), ("4", (4, 4)), (4.0, (4, 4))])
def test_coco_sizes(height: object, size: tuple[int, int] | None, tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    write_coco(tmp_path, [{**IMAGE, "height": height}])
    (sample,) = Coco(annotations="coco.json", images=".").samples(tmp_path)
    assert isinstance(sample.mask, Annotations)
    assert sample.mask.size == size


def test_category_ids_may_be_text_of_digits(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    region = {"id": 1, "image_id": 1, "category_id": "2", "segmentation": [[0, 0, 1, 1, 2, 2]]}
    write_coco(
        tmp_path, [IMAGE], categories=[{"id": "2", "name": "two"}, {"id": 10, "name": "ten"}], annotations=[region]
    )
    reader = Coco(annotations="coco.json", images=".")
    assert reader.labels(tmp_path).values == {2: "two", 10: "ten"}
    (sample,) = reader.samples(tmp_path)
    assert isinstance(sample.mask, Annotations)
    assert [segment.category for segment in sample.mask.segments] == [2]


def test_catalog_refuses_one_file_twice() -> None:
    entry = {"file_name": "/data/a.jpg", "sem_seg_file_name": "a.png"}
    DatasetCatalog.register("doubled", lambda: [entry, {**entry, "file_name": "/data/./a.jpg"}])
    with pytest.raises(DataError, match=r"data set 'doubled' has /data/a\.jpg more than once: join its annotations"):
        Catalog("doubled").samples(None)


@pytest.mark.parametrize("entry", [{"annotations": []}, {"file_name": "a.jpg", "annotations": [{"bbox": []}]}])
def test_catalog_refuses_dicts_that_are_not_detectron2s(entry: dict[str, Any]) -> None:
    name = f"foreign {len(entry)}"
    DatasetCatalog.register(name, lambda: [entry])
    with pytest.raises(
        DataError, match=r"entry 0 lacks file_name, or category_id in its annotations: it should be one"
    ):
        Catalog(name).samples(None)


def test_catalog_with_a_size_that_is_null() -> None:
    DatasetCatalog.register("null", lambda: [{"file_name": "a.jpg", "annotations": [], "height": None, "width": 3}])
    (sample,) = Catalog("null").samples(None)
    assert isinstance(sample.mask, Annotations)
    assert sample.mask.size is None


def test_catalog_refuses() -> None:
    with pytest.raises(ConfigError, match=r"no data set is registered as 'nowhere': name the file .* data\.imports"):
        Catalog("nowhere").samples(None)
    DatasetCatalog.register("broken", lambda: [{}["key"]])
    with pytest.raises(DataError, match="'broken' cannot be loaded: KeyError: 'key'"):
        Catalog("broken").samples(None)
    DatasetCatalog.register("nameless", lambda: [{"file_name": "a.jpg", "sem_seg_file_name": "a.png"}])
    with pytest.raises(ConfigError, match=r"no class names: MetadataCatalog\.get\('nameless'\)\.stuff_classes ="):
        Catalog("nameless").labels(None)


def test_catalog_with_relative_and_absolute_paths(tmp_path: Path) -> None:
    paths = ["images/a.jpg", str(tmp_path / "b.jpg")]
    DatasetCatalog.register("mixed", lambda: [{"file_name": path, "sem_seg_file_name": "a.png"} for path in paths])
    names = [Path(sample.name).name for sample in Catalog("mixed").samples(None)]
    assert sorted(names) == ["a", "b"]


def test_the_metadata_says_what_is_ignored() -> None:
    DatasetCatalog.register("ignoring", lambda: [{"file_name": "a.jpg", "sem_seg_file_name": "a.png"}])
    MetadataCatalog.get("ignoring").set(stuff_classes=["a", "b"], ignore_label=7, stuff_colors=[[1, 2, 3], [4, 5, 6]])
    labels = Catalog("ignoring").labels(None)
    assert labels.values == {0: "a", 1: "b", 7: None}
    assert labels.palette == {"a": (1, 2, 3), "b": (4, 5, 6)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "image,mask,split\na.jpg,a.png,val\n", r"no row of split 'train': its splits are val"),
        ("m.csv", "image,mask\na.jpg,a.png\n", r"line 2 has nothing in column 'split': its columns are image, mask"),
        (
            "m.csv",
            "image,mask,split\na.jpg,a.png,train\n./a.jpg,a.png,train\n",
            r"line 3 names \./a\.jpg again in this split, first seen in .*line 2: remove one",
        ),
        (
            "m.csv",
            "image,mask,split\nb.jpg,a.png,train\n",
            r"line 2 names image 'b\.jpg', but .*b\.jpg does not exist: check data\.root$",
        ),
        ("m.csv", "image,mask,split\na.jpg,x/b.png,train\n", r"line 2 names mask 'x/b\.png', .*: check data\.root$"),
        ("m.jsonl", '{"image": "a.jpg"\n', r"m\.jsonl, line 1 is no JSON"),
        ("m.jsonl", "[1]\n", r"line 1 is no JSON object"),
        ("m.txt", "", r"m\.txt is neither \.csv nor \.jsonl"),
    ],
)
def test_manifest_refuses(name: str, text: str, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        Manifest(file=name, split="train").samples(tmp_path)
