"""Images and masks that go together by named parts of their paths."""

import logging
from pathlib import Path
from typing import Any

import pytest

from lightning_seg.data import Folder
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.errors import ConfigError, DataError
from tests.data.archiving import archived
from tests.data.readers.files import found, touch

SCENES: dict[str, Any] = {"image_name": "{scene}/rgb/{id}.tif", "mask_name": "{scene}/labels/{id}_cls.tif"}


def test_scenes_with_a_folder_for_each_kind(tmp_path: Path) -> None:
    files = ["s1/rgb/1.tif", "s1/labels/1_cls.tif", "s2/rgb/1.TIF", "s2/labels/1_cls.Tif", "s1/nir/1.tif"]
    touch(tmp_path, *reversed(files))
    expected = [("s1/1", "s1/rgb/1.tif", "s1/labels/1_cls.tif"), ("s2/1", "s2/rgb/1.TIF", "s2/labels/1_cls.Tif")]
    assert found(Folder(**SCENES), tmp_path) == expected  # below data.root
    assert found(Folder(images=".", masks=".", **SCENES), tmp_path) == expected


def test_the_order_on_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"s{s}/{kind}/{i}{end}" for s in (2, 1) for i in (1, 0) for kind, end in KINDS))
    expected = found(Folder(**SCENES), tmp_path)
    from lightning_seg.data.readers import finding

    walk = finding.entries_below
    monkeypatch.setattr(finding, "entries_below", lambda top: reversed(list(walk(top))))
    assert found(Folder(**SCENES), tmp_path) == expected
    assert [name for name, *_ in expected] == ["s1/0", "s1/1", "s2/0", "s2/1"]


KINDS = (("rgb", ".tif"), ("labels", "_cls.tif"))


def test_patterns(tmp_path: Path) -> None:
    touch(
        tmp_path, "i/oslo/oslo_7_rgb.jpg", "m/7-oslo.png", "i/oslo/bergen_8_rgb.jpg", "i/new york/new york_a_b_rgb.png"
    )
    touch(tmp_path, "m/a_b-new york.png")
    reader = Folder("i", "m", image_name="{city}/{city}_{id}_rgb", mask_name="{id}-{city}.png", skip=["bergen*"])
    with pytest.raises(DataError, match=r"i holds no image"):  # the city must be the same: a slash makes both whole
        Folder("i", "m", image_name="{city}/{id}_{city}_rgb", mask_name="{id}-{city}.png").samples(tmp_path)
    assert found(reader, tmp_path) == [
        ("new york/a_b", "i/new york/new york_a_b_rgb.png", "m/a_b-new york.png"),
        ("oslo/7", "i/oslo/oslo_7_rgb.jpg", "m/7-oslo.png"),
    ]


def test_without_a_slash_both_lie_in_one_sub_folder(tmp_path: Path) -> None:
    touch(tmp_path, "i/x/1_north_rgb.jpg", "m/x/north-1.png", "m/y/north-2.png", "i/y/2_north_rgb.jpg")
    reader = Folder("i", "m", image_name="{id}_{side}_rgb.jpg", mask_name="{side}-{id}.png")
    assert [name for name, *_ in found(reader, tmp_path)] == ["x/1/north", "y/2/north"]


def test_wildcards_and_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a/rgb/x/1.jpg", "a/cls/1-x.png", "b/rgb/x/1.jpg", "b/cls/1-x.png")
    reader = Folder("*/rgb", "*/cls", image_name="{set}/{k}/{id}", mask_name="{set}/{id}-{k}.png")
    assert [name for name, *_ in found(reader, tmp_path)] == ["a/x/1", "b/x/1"]


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (
            ["s1/rgb/1.tif", "s1/rgb/2.tif", "s1/labels/1_cls.tif"],
            {},
            r"1 of 2 images .* have no mask named '\{scene\}/labels/\{id\}_cls\.tif' in .*: s1/2; add .* or mend "
            r"mask_name, which is s1/labels/2_cls\.tif for s1/rgb/2\.tif$",
        ),
        (
            ["s1/rgb/1.tif", "s1/labels/1_cls.tif"],
            {"mask_name": "{scene}/label/{id}_cls.tif"},
            r"which is s1/label/1_cls\.tif for s1/rgb/1\.tif \(there is s1/labels/1_cls\.tif, s1/rgb/1\.tif\)$",
        ),
        (
            ["s1/rgb/1.tif", "s1/labels/1_cls.tif"],
            {"image_name": "{scene}/rbg/{id}.tif"},
            r"holds no image named '\{scene\}/rbg/\{id\}\.tif' \(\.tif\) \(there is s1/labels/1_cls\.tif, s1/rgb/1\."
            r"tif\): check data\.root and the reader's images, image_name",
        ),
        (["s1/notes.txt"], {"skip": ["*.txt"]}, r"holds no image named .* \(it is empty\): check"),
        (
            ["s1/rgb/1.tif", "s1/labels/1_cls.tif", "s2/labels/1_cls.tif"],
            {},
            r"1 masks in .* have no image in .*: s2/labels/1_cls\.tif; add the images or remove the masks$",
        ),
        (
            ["s1/rgb/a/1.jpg", "s1/rgb/b/1.jpg", "s1/labels/1.png"],
            {"image_name": "{scene}/rgb/{camera}/{id}", "mask_name": "{scene}/labels/{id}.png"},
            r"several images of the same name for one mask: s1/1 \(s1/rgb/a/1\.jpg, s1/rgb/b/1\.jpg\); rename one",
        ),
        (
            ["s1/rgb/1.jpg", "s1/rgb/1.png", "s1/labels/1.png"],
            {"image_name": "{scene}/rgb/{id}", "mask_name": "{scene}/labels/{id}.png"},
            r"several images .*: s1/1 \(s1/rgb/1\.jpg, s1/rgb/1\.png\); rename .*, or narrow image_suffixes",
        ),
        (
            ["s1/rgb/1.tif", "s1/labels/1_cls.tif", "s1/labels/1_cls.TIF"],
            {},
            r"several masks of the same name for one image: s1/1 \(s1/labels/1_cls\.TIF, s1/labels/1_cls\.tif\)",
        ),
    ],
)
def test_refuses(files: list[str], settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        Folder(**{**SCENES, **settings}).samples(tmp_path)


def test_orphans_are_carried_to_the_audit(tmp_path: Path) -> None:
    touch(tmp_path, "s/rgb/1.tif", "s/rgb/2.tif", "s/rgb/3.tif", "s/labels/1_cls.tif", "s/labels/3_cls.jpg")
    touch(tmp_path, "s/labels/4_cls.tif")
    with pytest.raises(OrphanError) as raised:
        Folder(**SCENES).samples(tmp_path)
    assert [sample.name for sample in raised.value.samples] == ["s/1"]
    assert [(each.kind, str(each.path.relative_to(tmp_path))) for each in raised.value.orphans] == [  # type: ignore[union-attr]
        ("orphan_image", "s/rgb/2.tif"),
        ("lossy_mask", "s/labels/3_cls.jpg"),
        ("orphan_mask", "s/labels/4_cls.tif"),
    ]


def test_images_that_no_pattern_describes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A scene whose folders are spelt otherwise would be lost silently."""
    caplog.set_level(logging.INFO, "pytorch_lightning.utilities.rank_zero")
    touch(tmp_path, "s1/rgb/1.tif", "s1/labels/1_cls.tif", "s2/RGB/1.tif", "s2/Labels/1_cls.tif", "s2/notes.txt")
    for _ in range(2):
        assert len(found(Folder(**SCENES), tmp_path)) == 1
    assert caplog.text.count("Folder leaves out 2 files") == 1  # once, though a split reads each part
    assert "do not describe: s2/Labels/1_cls.tif, s2/RGB/1.tif; name them in skip" in caplog.text


@pytest.mark.parametrize(
    ("image_name", "mask_name", "message"),
    [
        (
            "{stem}",
            "{stme}.png",
            r"mask_name='\{stme\}\.png'\) has the part \{stme\}, which .* may have \{stem\}; did you",
        ),
        (
            "{scene}/{id}",
            "{scene}/{idx}_{x}.png",
            r"has the part \{idx\}, .*; it may have \{scene\}, \{id\}; did you mean id",
        ),
        ("{a}{b}.png", "{a}.png", r"image_name='\{a\}\{b\}\.png'\) has two parts with nothing between them"),
        ("{stem}_{}", "{stem}.png", r"image_name=.* has a brace that belongs to no part"),
        ("{stem}_{1}", "{stem}.png", r"image_name=.* has a brace that belongs to no part"),
        ("images/*.png", "{stem}.png", r"image_name='images/\*\.png'\) must hold a part"),
    ],
)
def test_refuses_patterns(image_name: str, mask_name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Folder("i", "m", image_name=image_name, mask_name=mask_name)


def test_a_list_takes_a_stem_alone() -> None:
    with pytest.raises(ConfigError, match=r"must hold \{stem\} and no other part: it has a list"):
        Folder(list="all.txt", **SCENES)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_in_archives(kind: str, tmp_path: Path) -> None:
    touch(tmp_path / "d", "s1/rgb/1.tif", "s1/labels/1_cls.tif", "s2/rgb/1.tif", "s2/labels/1_cls.tif")
    archive = archived(tmp_path / "d", tmp_path / f"set.{kind}", below="deep/")
    samples = Folder(f"set.{kind}/deep", **SCENES).samples(tmp_path)
    assert [(each.name, str(each.image), str(each.mask)) for each in samples] == [
        (f"{s}/1", f"{archive}/deep/{s}/rgb/1.tif", f"{archive}/deep/{s}/labels/1_cls.tif") for s in ("s1", "s2")
    ]


def test_prediction_leaves_its_masks_out(tmp_path: Path) -> None:
    touch(tmp_path, "s1/rgb/1.tif", "s1/labels/1_cls.tif")
    samples = images_to_predict(str(tmp_path), tmp_path, [Folder(**SCENES)])
    assert [sample.name for sample in samples] == ["s1/rgb/1"]
