"""One mask file for each class of an image."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.colours import default_palette
from lightning_seg.data import MaskPerClass
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.listing.files import file_digest
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.reading import read_mask
from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.data.stored import read_labels
from lightning_seg.errors import ConfigError, DataError, LossyMaskError, UnreadableError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import DatasetInfo, Sample
from tests.data.layouts import save, save_image
from tests.data.readers.files import touch

SIZE = (4, 6)


def covered(rows: slice, columns: slice, value: int = 255) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[rows, columns] = value
    return mask


LEFT, RIGHT, MIDDLE = (covered(slice(None), columns) for columns in (slice(0, 2), slice(4, 6), slice(1, 5)))


def truth_of(reader: MaskPerClass, root: Path, name: str, names: tuple[str, ...] = ()) -> np.ndarray:
    labels = reader.labels(root)
    (sample,) = [sample for sample in reader.samples(root) if sample.name == name]
    names = names or labels.names
    table = Labelling(DatasetInfo(names, 255, default_palette(len(names))), {}, {}, "refuse").table(
        labels, "data.train"
    )
    return read_labels(sample, SIZE, table)


def test_classes_are_found_from_names(tmp_path: Path) -> None:
    for stem in ("1", "2"):
        save_image(tmp_path / f"i/{stem}.jpg", 1, SIZE)
        save(tmp_path / f"m/road/{stem}.png", LEFT)
        save(tmp_path / f"m/car/{stem}.PNG", RIGHT // 255)
    reader = MaskPerClass("i", "m")
    labels = reader.labels(tmp_path)
    assert (labels.names, labels.values) == (("background", "car", "road"), {0: "background", 1: "car", 2: "road"})
    assert [sample.name for sample in reader.samples(tmp_path)] == ["1", "2"]
    assert truth_of(reader, tmp_path, "1").tolist() == [[2, 2, 0, 0, 1, 1]] * 4
    assert truth_of(reader, tmp_path, "2", ("road", "background", "car")).tolist() == [[0, 0, 1, 1, 2, 2]] * 4
    mask = reader.samples(tmp_path)[0].mask
    assert str(mask) == str(tmp_path / "m/{class}/1.png")
    assert file_digest(mask, whole=True)[0] > 24  # type: ignore[arg-type]
    ignored = MaskPerClass("i", "m", rest=None)
    assert truth_of(ignored, tmp_path, "1").tolist() == [[1, 1, 255, 255, 0, 0]] * 4
    assert ignored.labels(tmp_path).names == ("car", "road")
    assert MaskPerClass("i", "m", rest="road").labels(tmp_path).names == ("road", "car")


def test_more_classes_than_a_byte_counts(tmp_path: Path) -> None:
    save_image(tmp_path / "i/1.jpg", 1, SIZE)
    for number in range(300):
        save(tmp_path / f"m/{number:03d}/1.png", LEFT if number == 299 else RIGHT if number == 7 else LEFT * 0)
    assert truth_of(MaskPerClass("i", "m"), tmp_path, "1").tolist() == [[300, 300, 0, 0, 8, 8]] * 4


def test_in_one_folder_a_number_is_no_class(tmp_path: Path) -> None:
    """``img_1.png`` is named as a mask of class 1 would be, of an image ``img.png`` that is not there."""
    for stem in ("img_1", "img_2"):
        save_image(tmp_path / f"{stem}.png", 1, SIZE)
        save(tmp_path / f"{stem}_road.png", LEFT)
    reader = MaskPerClass(".", ".", mask_name="{stem}_{class}.png")
    assert [sample.name for sample in reader.samples(tmp_path)] == ["img_1", "img_2"]
    assert reader.labels(tmp_path).names == ("background", "road")
    given = images_to_predict(str(tmp_path), tmp_path, [reader])
    assert [sample.name for sample in given] == ["img_1", "img_2"]  # without the masks


def test_classes_that_names_do_not_tell(tmp_path: Path) -> None:
    save_image(tmp_path / "i/a_b.jpg", 1, SIZE)
    save(tmp_path / "m/a_b_stop_sign.png", LEFT)
    save(tmp_path / "m/a_b_car.png", RIGHT)
    save(tmp_path / "m/a_b_other.png", RIGHT)
    with pytest.raises(OrphanError, match=r"1 masks in .* have no image in .*: a_b_stop_sign\.png; add the images"):
        MaskPerClass("i", "m", mask_name="{stem}_{class}.png").samples(tmp_path)
    reader = MaskPerClass("i", "m", mask_name="{stem}_{class}.png", classes=["stop_sign", "car"])
    assert reader.labels(tmp_path).names == ("background", "stop_sign", "car")
    assert truth_of(reader, tmp_path, "a_b").tolist() == [[1, 1, 0, 0, 2, 2]] * 4


def test_overlap(tmp_path: Path) -> None:
    save_image(tmp_path / "i/1.jpg", 1, SIZE)
    save(tmp_path / "m/road/1.png", LEFT)
    save(tmp_path / "m/car/1.png", MIDDLE)
    refused = MaskPerClass("i", "m")
    message = r"masks .*m/car/1\.png and .*m/road/1\.png overlap in 4 pixels: mend them, or say .* overlap: \[CLASS"
    with pytest.raises(DataError, match=message) as raised:
        truth_of(refused, tmp_path, "1")
    assert not isinstance(raised.value, UnreadableError)  # data.unreadable: skip is no way round it
    for above, row in ((["road", "car"], [2, 2, 1, 1, 1, 0]), (["car", "x", "road"], [2, 1, 1, 1, 1, 0])):
        assert truth_of(MaskPerClass("i", "m", overlap=above), tmp_path, "1").tolist() == [row] * 4
    message = (
        r"overlap=\['rod', 'car'\]\) lacks road, of which there are masks: list every class, .*; did you mean rod\?"
    )
    with pytest.raises(ConfigError, match=message):
        MaskPerClass("i", "m", overlap=["rod", "car"]).samples(tmp_path)


def test_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pytorch_lightning.utilities.rank_zero")
    for stem in ("1", "2", "3"):
        save_image(tmp_path / f"i/{stem}.jpg", 1, SIZE)
    save(tmp_path / "m/road/1.png", LEFT)
    save(tmp_path / "m/road/2.png", LEFT)
    save(tmp_path / "m/car/2.png", RIGHT)
    with pytest.raises(
        OrphanError, match=r"2 of 3 images .* 1 \(car\), 3 \(car, road\); add .* missing: absent if"
    ) as raised:
        MaskPerClass("i", "m").samples(tmp_path)
    assert [sample.name for sample in raised.value.samples] == ["2"]
    assert [(each.kind, each.path) for each in raised.value.orphans] == [
        ("orphan_image", tmp_path / "i/1.jpg"),
        ("orphan_image", tmp_path / "i/3.jpg"),
    ]
    reader = MaskPerClass("i", "m", missing="absent")
    assert truth_of(reader, tmp_path, "1").tolist() == [[2, 2, 0, 0, 0, 0]] * 4
    assert truth_of(reader, tmp_path, "3").tolist() == [[0] * 6] * 4
    assert "1 of 3 images in" in caplog.text
    assert "have no mask at all, so that all their pixels are background (missing: absent): 3" in caplog.text


def test_what_is_nearly_a_mask_is_not_lost(tmp_path: Path) -> None:
    """It would count as a class that is absent."""
    for stem in ("1", "2", "3"):
        save_image(tmp_path / f"i/{stem}.jpg", 1, SIZE)
        save(tmp_path / f"m/road/{stem}.png", LEFT)
    touch(tmp_path, "m/car/1.jpg", "m/car/2.tif", "m/car/4.png", "m/road/notes.txt")
    (tmp_path / "m/road/3.png").unlink()
    (tmp_path / "m/road/3.png").symlink_to("nowhere")
    with pytest.raises(OrphanError) as raised:
        MaskPerClass("i", "m", missing="absent").samples(tmp_path)
    orphans = [(each.kind, str(each.path.relative_to(tmp_path))) for each in raised.value.orphans]  # type: ignore[union-attr]
    assert orphans == [
        ("orphan_mask", "m/car/4.png"), ("lossy_mask", "m/car/1.jpg"), ("orphan_mask", "m/car/2.tif"),
        ("unreadable", "m/road/3.png"),
    ]  # fmt: skip
    for text in (
        r"1 masks in .*m have no image in .*i: car/4\.png; add the images or remove the masks; ",
        r"2 files in .*m are named as masks but for their suffix, which is not '\.png': car/1\.jpg, car/2\.tif; save",
        r"1 files cannot be opened, the first of them: .*3\.png is a link that leads nowhere",
    ):
        assert raised.match(text)
    assert [sample.name for sample in raised.value.samples] == ["1", "2"]


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (["m/a/1.png"], {}, r"i holds no image named '\{stem\}' \(it is empty\): check data\.root and .* image_name"),
        (["i/x/1.jpg", "m/a/1.png"], {}, r"holds no image named '\{stem\}' \(there is x/1\.jpg\): check"),
        (
            ["i/1.jpg", "m/a_1.png"],
            {},
            r"holds no mask named '\{class\}/\{stem\}\.png' \(there is a_1\.png\): check .*mask_name",
        ),
        (
            ["i/1.jpg", "i/1.png", "m/a/1.png"],
            {},
            r"several images for the masks of 1: 1\.jpg, 1\.png; rename all but one",
        ),
        (["i/1.jpg", "m/a/1.png", "m/a/1.PNG"], {}, r"two masks of class a for 1: a/1\.PNG, a/1\.png; rename one"),
    ],
)
def test_refuses_files(files: list[str], settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        MaskPerClass("i", "m", **settings).samples(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mask_name": "{stem}.png"},
            r"must hold \{class\}, such as '\{class\}/\{stem\}\.png', and image_name '\{stem\}' must",
        ),
        ({"image_name": "{class}/{stem}"}, r"image_name '\{class\}/\{stem\}' must not"),
        (
            {"mask_name": "{class}/{stm}.png"},
            r"has the part \{stm\}, .* it may have \{stem\}, \{class\}; did you mean stem",
        ),
        ({"mask_name": "{class}.png"}, r"mask_name='\{class\}\.png'\) has no part of image_name '\{stem\}'"),
        ({"overlap": "last"}, r"overlap='last'\) must be refuse, or a list of all classes"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskPerClass("i", "m", **settings)


def united(file: Path, **settings: Any) -> np.ndarray:
    opened = ClassMasks("all", Path(), ((1, file),), **settings).open()
    return np.asarray(Image.open(opened))


def test_what_counts_in_a_mask(tmp_path: Path) -> None:
    soft = np.array([[0, 1, 100, 128, 200, 255]], np.uint8)
    file = save(tmp_path / "soft.png", soft)
    message = r"soft\.png has 4 values between 0 and 255, in 4 pixels: it was smoothed .* such as threshold: 128$"
    with pytest.raises(LossyMaskError, match=message):
        united(file)
    assert united(file, threshold=128).tolist() == [[0, 0, 0, 1, 1, 1]]
    assert united(file, threshold=1).tolist() == [[0, 1, 1, 1, 1, 1]]
    regions = save(tmp_path / "regions.png", np.array([[0, 1, 2, 3, 4, 0]], np.uint8))  # numbered regions
    assert united(regions).tolist() == [[0, 1, 1, 1, 1, 0]]
    deep = save(tmp_path / "deep.png", np.array([[0, 300, 70]], np.uint16))
    assert united(deep).tolist() == [[0, 1, 1]]
    colour = save(tmp_path / "colour.png", np.array([[[0, 0, 0], [0, 0, 9], [255, 0, 0]]], np.uint8))
    assert united(colour).tolist() == [[0, 1, 1]]
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "bits.png")
    assert united(tmp_path / "bits.png").tolist() == [[0, 1]]


def test_masks_that_say_two_things_are_refused(tmp_path: Path) -> None:
    for name, black in (("black.png", 0), ("white.png", 1)):
        palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
        palette.putpalette([255 * black] * 3 + [255 * (1 - black)] * 3)
        palette.save(tmp_path / name)
    assert united(tmp_path / "black.png").tolist() == [[0, 1]]
    with pytest.raises(UnreadableError, match=r"white\.png has a palette in which value 0 is not black, or another"):
        united(tmp_path / "white.png")
    rgba = np.array([[[255, 255, 255, 0], [255, 255, 255, 255], [0, 0, 0, 0]]], np.uint8)
    with pytest.raises(
        UnreadableError, match=r"rgba\.png is transparent in 1 pixels that are not black, so that programs"
    ):
        united(save(tmp_path / "rgba.png", rgba))
    rgba[0, 0, :3] = 0
    assert united(save(tmp_path / "agrees.png", rgba)).tolist() == [[0, 1, 0]]


def test_images_in_other_folders_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pytorch_lightning.utilities.rank_zero")
    touch(tmp_path, "i/1.jpg", "i/sub/2.jpg", "m/a/1.png")
    assert [sample.name for sample in MaskPerClass("i", "m").samples(tmp_path)] == ["1"]
    assert "MaskPerClass leaves out 1 files in" in caplog.text
    assert "do not describe: sub/2.jpg; name them in skip" in caplog.text


@pytest.mark.parametrize("kind", ["size", "damage", "gone"])
def test_names_the_file_that_is_wrong(kind: str, tmp_path: Path) -> None:
    save_image(tmp_path / "i/1.jpg", 1, SIZE)
    save(tmp_path / "m/car/1.png", RIGHT)
    file = save(tmp_path / "m/road/1.png", LEFT[:3] if kind == "size" else LEFT)
    reader = MaskPerClass("i", "m")
    (sample,) = reader.samples(tmp_path)
    if kind == "damage":
        file.write_bytes(file.read_bytes()[:40])
    if kind == "gone":
        file.unlink()
    message = {
        "size": r"mask .*road/1\.png is 6×3 pixels, but .*car/1\.png of the same image is 6×4: they must",
        "damage": r"mask .*road/1\.png cannot be read \(",
        "gone": r"mask .*road/1\.png does not exist",
    }[kind]
    assert _exists(sample) == (kind != "gone")
    with pytest.raises(DataError, match=message):
        read_mask(sample.mask)  # type: ignore[arg-type]


def _exists(sample: Sample) -> bool:
    mask: AnyFile | Any = sample.mask
    return bool(mask.exists())


def test_the_order_on_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_seg.data.readers import finding

    touch(tmp_path, *(f"{name}/{stem}.png" for name in ("i", "m/b", "m/a") for stem in ("2", "1")))
    reader: Callable[[], MaskPerClass] = lambda: MaskPerClass("i", "m")  # noqa: E731
    expected = reader().samples(tmp_path)
    walk = finding.entries_below
    monkeypatch.setattr(finding, "entries_below", lambda top: reversed(list(walk(top))))
    again = reader().samples(tmp_path)
    assert again == expected
    assert [sample.mask.files for sample in again] == [sample.mask.files for sample in expected]  # type: ignore[union-attr]
