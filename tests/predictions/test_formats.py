"""Each format holds what was predicted, read back by something else than what wrote it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO

from lightning_seg.colours import default_palette
from lightning_seg.errors import ConfigError, DataError, UnfitImageError
from lightning_seg.predictions import FORMATS, Prediction, formats_of, refuse_misfits, save
from lightning_seg.predictions.coco import join
from lightning_seg.structures import DatasetInfo

CITYSCAPES = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
"""As cityscapesScripts' ``labels.py`` has them."""


def info_of(*names: str) -> DatasetInfo:
    return DatasetInfo(names, 255, default_palette(len(names)))


def prediction(name: str, classes: DatasetInfo, size: tuple[int, int] = (9, 13), seed: int = 0) -> Prediction:
    random = np.random.default_rng(seed)
    scores = random.random((classes.num_classes, *size), np.float32)
    scores /= scores.sum(0)
    image = random.integers(0, 256, (*size, 3), np.uint8)
    return Prediction(name, scores.argmax(0).astype(np.uint8), classes, lambda: image, lambda: scores)


@pytest.mark.parametrize(("form", "most"), [("probabilities", 2.5e-4), ("probabilities_8bit", 2e-3)])
def test_probabilities(tmp_path: Path, form: str, most: float) -> None:
    given = prediction("a/1", info_of("x", "y", "z"))
    [path] = save(given, tmp_path, [form])
    assert path == tmp_path / form / "a/1.npz"
    found = np.load(path)
    assert found["class_names"].tolist() == ["x", "y", "z"]
    values = found["probabilities"]
    assert values.dtype == (np.float16 if form == "probabilities" else np.uint8)
    scale = 1 if form == "probabilities" else 255
    assert np.abs(values.astype(np.float64) / scale - given.probabilities()).max() <= most


def test_confidence(tmp_path: Path) -> None:
    given = prediction("a/1", info_of("x", "y", "z"))
    [path] = save(given, tmp_path, ["confidence"])
    assert path == tmp_path / "confidence/a/1.png"
    with Image.open(path) as picture:
        assert picture.mode == "L"
        found = np.asarray(picture)
    largest = given.probabilities().max(0)
    assert found.shape == largest.shape
    assert (found == np.floor(255 * largest + 0.5)).all()


def test_cityscapes_ids(tmp_path: Path) -> None:
    names = sorted(CITYSCAPES)  # in another order than Cityscapes' own
    given = prediction("frankfurt/frankfurt_000000_000294_leftImg8bit", info_of(*names))
    refuse_misfits(["cityscapes"], given.info, [given.name])
    [path] = save(given, tmp_path, ["cityscapes"])
    assert path.name == "frankfurt_000000_000294_leftImg8bit_labelIds.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        stored = np.asarray(image)
    assert stored.tolist() == [[CITYSCAPES[names[label]] for label in row] for row in given.labels]


def test_ade20k_counts_from_1_in_its_own_order(tmp_path: Path) -> None:
    from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES as NAMES

    given = prediction("ADE_test_00000001", info_of(*reversed(NAMES)))
    refuse_misfits(["ade20k"], given.info, [given.name])
    [path] = save(given, tmp_path, ["ade20k"])
    assert path.name == "ADE_test_00000001.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), 150 - given.labels.astype(int))


@pytest.mark.parametrize(
    ("form", "classes", "name", "message"),
    [
        (
            "cityscapes",
            ["road", "sky"],
            "a",
            r"the server of Cityscapes wants its 19 classes, of which data\.classes lacks sid",
        ),
        ("cityscapes", [*CITYSCAPES, "boat"], "a", r"knows 19 classes, but not boat of data\.classes"),
        ("cityscapes", [*CITYSCAPES], "clip/000001", "goes by names such as frankfurt_000000_000294_leftImg8bit, but"),
        ("ade20k", ["wall"], "a", r"the server of ADE20K wants its 150 classes, of which data\.classes lacks building"),
    ],
)
def test_a_server_that_would_misread_is_refused(form: str, classes: list[str], name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"--save {form}: .*{message}"):
        refuse_misfits([form], info_of(*classes), [name])


def parts(folder: Path, *names: str) -> tuple[list[Prediction], list[tuple[str, str, Path]]]:
    given = [
        prediction(name, info_of("x", "y", "z"), (9, 13 + number), seed=number) for number, name in enumerate(names)
    ]
    return given, [(one.name, f"{one.name}.jpg", save(one, folder, ["coco"])[0]) for one in given]


def label_map(annotations: list[dict[str, Any]], size: tuple[int, int]) -> NDArray[Any]:
    labels = np.zeros(size, int)
    for annotation in annotations:
        region = mask.decode(annotation["segmentation"]).astype(bool)
        assert not labels[region].any()
        assert region.sum() == annotation["area"]
        labels[region] = annotation["category_id"]
    return labels - 1


def test_coco_reads_its_own(tmp_path: Path) -> None:
    given, written = parts(tmp_path, "b/COCO_000000000042", "a/COCO_000000000007")
    join(tmp_path, written, given[0].info.names)
    read = COCO(str(tmp_path / "coco.json"))
    assert read.loadCats(read.getCatIds()) == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"id": 3, "name": "z"}]
    results = read.loadRes(str(tmp_path / "coco_results.json"))
    for one, image_id in zip(given, (42, 7), strict=True):
        [image] = read.loadImgs([image_id])
        assert (image["height"], image["width"]) == one.labels.shape
        assert image["file_name"] == f"{one.name}.jpg"
        for source in (read, results):
            found = source.loadAnns(source.getAnnIds([image_id]))
            assert np.array_equal(label_map(found, one.labels.shape), one.labels)
    assert {*json.loads((tmp_path / "coco_results.json").read_text())[0]} == {"image_id", "category_id", "segmentation"}


@pytest.mark.parametrize("names", [("a", "b"), ("a/1", "b/1"), ("1", "b")])
def test_images_whose_names_are_no_different_numbers_are_counted(tmp_path: Path, names: tuple[str, str]) -> None:
    _, written = parts(tmp_path, *names)
    join(tmp_path, written, ["x", "y", "z"])
    assert [image["id"] for image in json.loads((tmp_path / "coco.json").read_text())["images"]] == [1, 2]


def test_coco_without_an_image(tmp_path: Path) -> None:
    join(tmp_path, [], ["x"])
    assert json.loads((tmp_path / "coco.json").read_text())["images"] == []
    assert json.loads((tmp_path / "coco_results.json").read_text()) == []


def of_labels(labels: NDArray[np.uint8]) -> Prediction:
    other = prediction("a", info_of("x", "y", "z"))
    return Prediction("a", labels, other.info, other.image, other.probabilities)


def test_polygons_cover_their_pixels_exactly(tmp_path: Path) -> None:
    """Regions that touch at a corner, holes that do, single pixels, and what is at the border."""
    shapely = pytest.importorskip("shapely")
    for seed in range(40):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 1 + seed % 3, random.integers(1, 13, 2)).astype(np.uint8)
        given = of_labels(labels)
        [path] = save(given, tmp_path, ["polygons"])
        found = json.loads(path.read_text())
        assert found["type"] == "FeatureCollection"
        rows, columns = np.indices(labels.shape) + 0.5
        covered = np.full(labels.shape, -1)
        for feature in found["features"]:
            region = shapely.Polygon(feature["geometry"]["coordinates"][0], feature["geometry"]["coordinates"][1:])
            assert region.is_valid
            assert region.exterior.is_ccw
            assert region.area == feature["properties"]["pixels"]
            assert feature["properties"]["class"] == given.info.names[feature["properties"]["class_id"]]
            inside = shapely.contains_xy(region, columns, rows)
            assert (covered[inside] == -1).all()
            covered[inside] = feature["properties"]["class_id"]
        assert np.array_equal(covered, labels)


def test_a_ring_has_its_corners_alone(tmp_path: Path) -> None:
    labels = np.zeros((4, 5), np.uint8)
    labels[1:3, 1:4] = 1
    [path] = save(of_labels(labels), tmp_path, ["polygons"])
    outer, inner = (feature["geometry"]["coordinates"] for feature in json.loads(path.read_text())["features"])
    assert [len(ring) for ring in outer] == [5, 5]
    assert {tuple(corner) for corner in outer[0]} == {(0, 0), (5, 0), (5, 4), (0, 4)}
    assert (
        {tuple(corner) for corner in outer[1]}
        == {tuple(corner) for corner in inner[0]}
        == {(1, 1), (4, 1), (4, 3), (1, 3)}
    )


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_prediction_is_the_same_bytes(tmp_path: Path, form: str) -> None:
    names = {"cityscapes": [*CITYSCAPES], "ade20k": ["wall", "sky"]}.get(form, ["x", "y"])
    first, second = (
        save(prediction("a", info_of(*names)), tmp_path / folder, [form])[0].read_bytes() for folder in ("1", "2")
    )
    assert first == second


def test_names_of_formats() -> None:
    assert formats_of(["coco", "masks"]) == formats_of(["masks,coco"]) == formats_of(["[coco, masks, coco]"])
    assert formats_of(["coco", "masks"]) == ["masks", "coco"]
    known = r"choose from masks, overlays, probabilities, .*polygons"
    with pytest.raises(
        ConfigError, match=rf"--save mask: no such format of a prediction; {known}; did you mean masks\?"
    ):
        formats_of(["coco", "mask"])
    with pytest.raises(ConfigError, match=rf"--save nothing: no such format.*{known}"):
        formats_of([])


def test_an_overlay_that_no_jpeg_holds_is_refused(tmp_path: Path) -> None:
    for width, fits in ((65500, True), (65501, False)):
        image = np.zeros((1, width, 3), np.uint8)
        wide = Prediction(f"w{width}", image[..., 0], info_of("x", "y"), lambda image=image: image, lambda: None)
        if fits:
            assert save(wide, tmp_path, ["overlays"])[0].is_file()
        else:
            with pytest.raises(UnfitImageError, match=r"overlay of w65501 would be 65501×1 pixels, and a JPEG's sides"):
                save(wide, tmp_path)
    assert (tmp_path / "masks/w65501.png").is_file()


def test_a_name_that_leads_out_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leads out of"):
        save(prediction("../a", info_of("x")), tmp_path / "out", ["masks", "coco"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
