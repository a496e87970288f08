"""What labelme writes: a JSON file of shapes for each image."""

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from lightning_seg.colours import default_palette
from lightning_seg.data import Labelme
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.stored import read_labels
from lightning_seg.errors import DataError
from lightning_seg.structures import DatasetInfo
from tests.data.layouts import save_image
from tests.data.readers.files import touch

SIZE = (20, 30)
SQUARE = {"label": "a", "shape_type": "rectangle", "points": [[12, 12], [4, 4]]}
POLYGON = [[2.5, 3.2], [25.1, 1.0], [18.3, 17.9], [9.0, 19.5]]


def png(pixels: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(root: Path, *shapes: dict[str, Any], name: str = "1", **content: Any) -> None:
    """A file as labelme writes it, and its image, unless that is elsewhere."""
    if not (root / f"{name}.jpg").exists() and "imagePath" not in content:
        save_image(root / f"{name}.jpg", 1, SIZE)
    whole = {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None,
        "imageHeight": SIZE[0], "imageWidth": SIZE[1], **content,
    }  # fmt: skip
    (root / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.json").write_text(json.dumps({key: value for key, value in whole.items() if value != "LEFT OUT"}))


def truth_of(root: Path, **settings: Any) -> np.ndarray:
    reader = Labelme(".", **settings)
    labels = reader.labels(root)
    (sample,) = reader.samples(root)
    info = DatasetInfo(labels.names, 255, default_palette(len(labels.names)))
    return read_labels(sample, SIZE, Labelling(info, {}, {}, "refuse").table(labels, "data.train"))


def as_coco_paints(*polygons: list[float]) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(list(polygons), *SIZE)))


def test_polygons_cover_what_coco_says(tmp_path: Path) -> None:
    write(tmp_path, {"label": "a", "points": POLYGON, "group_id": 3, "flags": {}, "description": "x"})
    expected = as_coco_paints([value for point in POLYGON for value in point])
    assert np.array_equal(truth_of(tmp_path), expected)
    assert np.array_equal(truth_of(tmp_path, background=None), np.where(expected, 0, 255))
    for kind in ("polygon", None):
        write(tmp_path, {"label": "a", "points": POLYGON, "shape_type": kind})
        assert np.array_equal(truth_of(tmp_path), expected)


def test_rectangles_and_circles(tmp_path: Path) -> None:
    square = np.zeros(SIZE, np.uint8)
    square[4:12, 4:12] = 1
    for points in ([[12, 12], [4, 4]], [[4, 12], [12, 4]], [[4, 4], [12, 4], [12, 12], [4, 12]]):
        write(tmp_path, {**SQUARE, "points": points})
        assert np.array_equal(truth_of(tmp_path), square)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for radius in (8.0, 3.5, 0.0, 40.0):
        write(
            tmp_path,
            {"label": "a", "shape_type": "circle", "points": [[15, 10], [15 + 0.6 * radius, 10 + 0.8 * radius]]},
        )
        distance = np.hypot(rows - 10, columns - 15)
        found = truth_of(tmp_path)
        clear = abs(distance - radius) > 0.75  # pixels that the circle does not cross
        assert np.array_equal(found[clear], (distance < radius)[clear])


def test_masks_lie_between_two_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (5, 7))
    for left, top, inner in (
        (3, 2, pixels),
        (0, 0, np.ones((20, 30))),
        (23, 15, pixels),
        (9, 9, pixels * 0),
        (3, 0, [[1]] * 20),
    ):
        height, width = np.shape(inner)
        points = [[left, top], [left + width - 1, top + height - 1]]
        shape = {"label": "a", "shape_type": "mask", "points": points, "mask": png(inner)}
        write(tmp_path, shape)
        expected = np.zeros(SIZE, np.uint8)
        expected[top : top + height, left : left + width] = inner
        assert np.array_equal(truth_of(tmp_path), expected)


def test_shapes_are_drawn_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Also a large one over a small one, and a hole in a region."""
    small = {**SQUARE, "label": "b", "points": [[6, 6], [8, 8]]}
    write(tmp_path, SQUARE, small)
    assert truth_of(tmp_path)[7].tolist()[3:14] == [0, 1, 1, 2, 2, 1, 1, 1, 1, 0, 0]
    write(tmp_path, small, SQUARE)
    assert truth_of(tmp_path)[7].tolist()[3:14] == [0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    for label, value in (("_background_", 0), ("__ignore__", 255)):
        write(tmp_path, SQUARE, {**small, "label": label})
        assert truth_of(tmp_path)[7].tolist()[3:14] == [0, 1, 1, value, value, 1, 1, 1, 1, 0, 0]
        assert Labelme(".").labels(tmp_path).names == ("background", "a")
    write(tmp_path, SQUARE, {**small, "label": "_background_"})
    assert truth_of(tmp_path, background=None)[7, 3:9].tolist() == [255, 0, 0, 255, 255, 0]


def test_an_image_without_shapes_is_background(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, SQUARE, name="2")
    assert [len(sample.mask.segments) for sample in Labelme(".").samples(tmp_path)] == [0, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("image", "image_path", "images"),
    [
        ("json/1.jpg", "1.jpg", None),
        ("images/1.JPG", "..\\images\\1.jpg", None),
        ("json/1.jpg", "C:\\Users\\me\\1.jpg", None),
        ("json/1.jpg", "/home/me/1.jpg", None),
        ("images/1.jpg", "../elsewhere/1.jpg", "images"),
        ("images/other.png", "other.png", "images"),
    ],
)
def test_where_images_lie(image: str, image_path: str, images: str | None, tmp_path: Path) -> None:
    save_image(tmp_path / image, 1, SIZE)
    write(tmp_path, SQUARE, name="json/1", imagePath=image_path)
    (sample,) = Labelme("json", images).samples(tmp_path)
    assert (sample.name, sample.image) == ("1", tmp_path / image)


def test_images_in_sub_folders_of_the_same_name(tmp_path: Path) -> None:
    for part in ("x", "y"):
        save_image(tmp_path / f"images/{part}/1.jpg", 1, SIZE)
        write(tmp_path, SQUARE, name=f"json/{part}/1", imagePath="1.jpg")
    samples = Labelme("json", "images").samples(tmp_path)
    assert [(each.name, each.image) for each in samples] == [(f"{p}/1", tmp_path / f"images/{p}/1.jpg") for p in "xy"]
    assert [each.name for each in images_to_predict(str(tmp_path), tmp_path, [Labelme("json", "images")])] == [
        "images/x/1",
        "images/y/1",
    ]


def test_files_without_a_partner(tmp_path: Path) -> None:
    write(tmp_path, SQUARE)
    write(tmp_path, SQUARE, name="2", imagePath="gone.jpg")
    write(tmp_path, SQUARE, name="broken", shapes=None)
    touch(tmp_path, "3.jpg", "4.PNG", "flags.txt")
    for unannotated, expected in (("refuse", ["3.jpg", "4.PNG"]), ("skip", [])):
        with pytest.raises(OrphanError) as raised:
            Labelme(".", unannotated=unannotated).samples(tmp_path)  # type: ignore[arg-type]
        found = [(each.kind, str(each.path.relative_to(tmp_path))) for each in raised.value.orphans]  # type: ignore[union-attr]
        assert found == [
            ("unreadable", "broken.json"),
            ("orphan_mask", "2.json"),
            *(("orphan_image", name) for name in expected),
        ]
        assert [sample.name for sample in raised.value.samples] == ["1"]
        assert raised.match(
            r"2\.json names image 'gone\.jpg', but .*gone\.jpg does not exist: check imagePath, and the reader"
        )
        assert ("2 images have no labelme file: " in str(raised.value)) == bool(expected)
    (tmp_path / "2.json").unlink()
    assert [each.name for each in Labelme(".", unannotated="skip", skip=["broken*"]).samples(tmp_path)] == ["1"]


def test_images_that_may_be_two(tmp_path: Path) -> None:
    write(tmp_path, SQUARE)
    write(tmp_path, SQUARE, name="2", imagePath="1.jpg")
    with pytest.raises(
        DataError, match=r"1\.json and .*2\.json belong to one image, .*1\.jpg: put all its shapes into one"
    ):
        Labelme(".").samples(tmp_path)
    (tmp_path / "2.json").unlink()
    touch(tmp_path, "3.JPG", "3.jPg")
    write(tmp_path, SQUARE, name="3", imagePath="3.jpg")
    (tmp_path / "3.jpg").unlink(missing_ok=True)
    with pytest.raises(
        DataError, match=r"3\.json names image '3\.jpg', which may be .*3\.j?J?P?p?G?g? or .*: mend its imagePath"
    ):
        Labelme(".").samples(tmp_path)
    touch(tmp_path, "sub/a.jpg")
    with pytest.raises(DataError, match=r"holds no labelme file \(\.json\) \(there is a\.jpg\): check data\.root"):
        Labelme("sub").samples(tmp_path)


def test_the_size_is_checked(tmp_path: Path) -> None:
    write(tmp_path, SQUARE, imageWidth=31)
    with pytest.raises(DataError, match=r"1\.json states 31×20 pixels, but the image has 30×20: annotate"):
        truth_of(tmp_path)
    write(tmp_path, SQUARE, imageWidth=None, imageHeight="LEFT OUT")  # as labelme 3 and older
    assert truth_of(tmp_path).sum() == 64


MASK = {"label": "a", "shape_type": "mask", "points": [[3, 2], [5, 4]], "mask": png(np.ones((3, 3)))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": None}, r"is no labelme file, for it has no list of shapes: name it in the reader's skip"),
        ({"imagePath": 3}, r"has imagePath 3: expected the path of its image"),
        ({"imagePath": " "}, r"has imagePath ' ': expected"),
        ({"imageHeight": "x"}, r"its height is 'x': expected a whole number"),
        ({"imageHeight": float("nan")}, r"its height is nan: expected a whole number"),
        ({"imageHeight": float("inf")}, r"its height is inf: expected a whole number"),
        ({"imageHeight": 0}, r"its size is 30×0: expected whole numbers above 0 and below"),
        ({"imageHeight": 10**30}, r"its size is 30×10+: expected"),
        ({"shapes": [3]}, r"shape 1 is '3': expected an object with label and points"),
        ({"shapes": [{**SQUARE, "label": None}]}, r"shape 1 has the label None: expected the name of a class"),
        (
            {"shapes": [SQUARE, {**SQUARE, "points": None}]},
            r"shape 2 \(rectangle 'a'\) has the points None: expected \[\[x, y",
        ),
        ({"shapes": [{**SQUARE, "points": [[1, 2], [3]]}]}, r"has the points \[\[1, 2\], \[3\]\]: expected"),
        ({"shapes": [{**SQUARE, "points": [[1, "2"], [3, 4]]}]}, r"has the points .*: expected"),
        ({"shapes": [{**SQUARE, "points": [[1, 10**400], [3, 4]]}]}, r"has the points .*: expected"),
        ({"shapes": [{**SQUARE, "points": [[1, float("nan")], [3, 4]]}]}, r"has the coordinate nan"),
        ({"shapes": [{**SQUARE, "points": [[1, 1e300], [3, 4]]}]}, r"has the coordinate 1e\+300"),
        ({"shapes": [{**SQUARE, "points": [[1, 2]]}]}, r"shape 1 \(rectangle 'a'\) has 1 points: expected 2"),
        ({"shapes": [{**SQUARE, "shape_type": "line"}]}, r"covers no area: .* or leave .* skip_shapes: \[line\]$"),
        (
            {"shapes": [{**SQUARE, "shape_type": "cuboid"}]},
            r"is of a kind that is not known .* skip_shapes: \[cuboid\]$",
        ),
        ({"shapes": [{**SQUARE, "shape_type": 7}]}, r"is of a kind that is not known"),
        ({"shapes": [{**SQUARE, "shape_type": ["x"]}]}, r"is of a kind that is not known"),
        ({"shapes": [MASK], "imageHeight": None}, r"is a mask, but the file has no imageHeight and imageWidth"),
        ({"shapes": [{**MASK, "mask": None}]}, r"has the mask 'None': expected a PNG in base64"),
        ({"shapes": [{**MASK, "mask": "not base64!"}]}, r"has the mask 'not base64!': expected a PNG in base64"),
        ({"shapes": [{**MASK, "mask": "AAAA"}]}, r"mask .*1\.json, shape 1 \(mask 'a'\) cannot be read"),
        (
            {"shapes": [{**MASK, "points": [[3, 2], [6, 4]]}]},
            r"mask of 3×3 pixels between points that are 4×3 pixels apart",
        ),
        ({"shapes": [{**MASK, "points": [[28, 2], [30, 4]]}]}, r"has a mask that reaches out of its 30×20 image"),
    ],
)
def test_a_broken_file_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, **{"shapes": [SQUARE], **change}) if "imagePath" not in change else write(
        tmp_path, SQUARE, **change
    )
    write(tmp_path, SQUARE, name="2")
    with pytest.raises(OrphanError, match=message) as raised:
        Labelme(".", unannotated="skip").samples(tmp_path)
    assert [(each.kind, each.path) for each in raised.value.orphans] == [("unreadable", tmp_path / "1.json")]
    assert [sample.name for sample in raised.value.samples] == ["2"]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[1, 2], [3, 4]], "three points or more"),
        ([[1, 2], [3, 4], [5, 9e8]], r"reaches from 1 to 9e\+08, far outside"),
    ],
)
def test_a_polygon_that_cannot_be_painted_is_named(points: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, {"label": "a", "points": points})
    with pytest.raises(DataError, match=rf"1\.json, annotation 1 \(polygon 'a'\) has a polygon .*{message}"):
        truth_of(tmp_path)


def test_shapes_that_are_left_out(tmp_path: Path) -> None:
    pole = {"label": "pole", "shape_type": "line", "points": [[1, 1], [2, 9]]}
    write(tmp_path, SQUARE, pole, {**pole, "shape_type": "point", "points": [[1, 1]]}, {"shape_type": "cuboid"})
    reader = Labelme(".", skip_shapes=["line", "point", "cuboid"])
    assert reader.labels(tmp_path).names == ("background", "a")
    assert [segment.annotation for segment in reader.samples(tmp_path)[0].mask.segments] == ["1 (rectangle 'a')"]  # type: ignore[union-attr]


def test_no_damage_ends_in_anything_but_an_error_with_a_name(tmp_path: Path) -> None:
    """Bytes are changed, and values put in the place of others, anywhere."""
    rng = random.Random(0)
    write(tmp_path, SQUARE, {"label": "b", "points": POLYGON}, MASK, {**SQUARE, "shape_type": "circle"})
    whole = (tmp_path / "1.json").read_bytes()
    odd = [None, True, -1, 0, 10**30, float("nan"), 1e308, "", "a" * 50, [], [[]], [[[1]]], {}, {"x": 1}]
    refused = painted = 0
    for turn in range(600):
        if turn % 2:
            content = json.loads(whole)
            _replace_one(content, rng, rng.choice(odd))
            (tmp_path / "1.json").write_text(json.dumps(content))
        else:
            data = bytearray(whole)
            for _ in range(rng.choice((1, 3))):
                data[rng.randrange(len(data))] = rng.randrange(rng.choice((128, 128, 256)))
            (tmp_path / "1.json").write_bytes(data[: rng.choice((*[len(data)] * 5, rng.randrange(len(data))))])
        try:
            truth = truth_of(tmp_path, unannotated="skip")
        except DataError as error:
            refused += "1.json" in str(error)
        else:
            assert truth.shape == SIZE
            painted += 1
    assert (refused > 200, painted > 40, refused + painted) == (True, True, 600), (refused, painted)


def _replace_one(content: Any, rng: random.Random, value: Any) -> None:
    """Put a value in the place of any other one within."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(inner, dict | list):
                visit(inner)

    visit(content)
    node, key = rng.choice(places)
    node[key] = value
