"""The Folder reader: what it finds, and how it refuses."""

from pathlib import Path

import pytest

from lightning_seg.data import Folder
from lightning_seg.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(reader: Folder, root: Path) -> list[tuple[str, str, str]]:
    return [
        (sample.name, sample.image.relative_to(root).as_posix(), sample.mask.relative_to(root).as_posix())
        for sample in reader.samples(root)
        if sample.mask is not None
    ]


def test_matches_by_relative_stem(tmp_path: Path) -> None:
    touch(tmp_path, "i/b.JPG", "i/city/a.png", "i/._b.jpg", "i/notes.txt", "m/b.png", "m/city/a.png", "m/readme.md")
    assert found(Folder(images="i", masks="m"), tmp_path) == [
        ("b", "i/b.JPG", "m/b.png"),
        ("city/a", "i/city/a.png", "m/city/a.png"),
    ]


def test_one_folder_with_a_template(tmp_path: Path) -> None:
    touch(tmp_path, "d/a.png", "d/a_mask.png", "d/b.png", "d/b_mask.png")
    assert found(Folder(images="d", masks="d", mask_name="{stem}_mask.png"), tmp_path) == [
        ("a", "d/a.png", "d/a_mask.png"),
        ("b", "d/b.png", "d/b_mask.png"),
    ]


def test_skips_what_lies_beside(tmp_path: Path) -> None:
    touch(tmp_path, "d/a.jpg", "d/a.png", "d/a_color.png", "d/thumbnail.jpg")
    reader = Folder(images="d", masks="d", image_suffixes=[".jpg"], skip=["*_color.png", "thumb*"])
    assert found(reader, tmp_path) == [("a", "d/a.jpg", "d/a.png")]
    with pytest.raises(DataError, match=r"no mask named .*: thumbnail.* have no image .*: a_color\.png"):
        Folder(images="d", masks="d", image_suffixes=[".jpg"]).samples(tmp_path)


def test_home_and_variables_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "i/a.jpg", "m/a.png")
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [sample.image for sample in Folder(images="$MY_DATA/i", masks="~/m").samples(None)] == [tmp_path / "i/a.jpg"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["i/notes.txt", "m/a.png"], r"i holds no image .* check data\.root"),
        (
            ["i/a.jpg", "i/b.jpg", "m/a.png"],
            r"1 of 2 images .* have no mask named '\{stem\}\.png' .*: b; add the masks",
        ),
        (["i/a.jpg", "m/a.png", "m/c.png"], r"1 masks in .* have no image in .*: c\.png; add the images or remove"),
        (
            ["i/a.jpg", "i/a.png", "m/a.png"],
            r"several images of the same name for one mask: a \(a\.jpg, a\.png\); rename",
        ),
        (["i/a.jpg"], r"folder of masks .*m does not exist"),
    ],
)
def test_refuses(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        Folder(images="i", masks="m").samples(tmp_path)


def test_list_of_pairs_with_an_unreal_prefix(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "trainannot/a.png", "train/b.jpg", "trainannot/b.png")
    (tmp_path / "train.txt").write_text("/SegNet/CamVid/train/b.jpg /SegNet/CamVid/trainannot/b.png\n\n")
    reader = Folder(list="train.txt", strip_prefix="/SegNet/CamVid/")
    assert found(reader, tmp_path) == [("train/b", "train/b.jpg", "trainannot/b.png")]
    with pytest.raises(DataError, match=r"line 1 names image '/SegNet/CamVid/train/b.jpg'.*strip_prefix"):
        Folder(list="train.txt").samples(tmp_path)


@pytest.mark.parametrize("entry", ["sub/a", "sub/a.jpg", "i/sub/a.jpg"])
def test_list_of_stems_or_images(tmp_path: Path, entry: str) -> None:
    touch(tmp_path, "i/sub/a.jpg", "i/b.jpg", "m/sub/a_L.png", "m/i/sub/a_L.png")
    (tmp_path / "l.txt").write_text(entry + "\n")
    samples = Folder(images="i", masks="m", mask_name="{stem}_L.png", list="l.txt").samples(tmp_path)
    assert [sample.image for sample in samples] == [tmp_path / "i/sub/a.jpg"]


def test_list_with_tabs_may_hold_spaces(tmp_path: Path) -> None:
    touch(tmp_path, "my images/a.jpg", "my masks/a.png")
    (tmp_path / "l.txt").write_text("my images/a.jpg\tmy masks/a.png\n")
    assert found(Folder(list="l.txt"), tmp_path) == [("my images/a", "my images/a.jpg", "my masks/a.png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a b c\n", r"line 1 has 3 columns"),
        ("a\na\n", r"line 2 names a again, first seen in line 1"),
        ("a\nz\n", r"line 2 names image 'z\.jpg', but .*z\.jpg does not exist: check data\.root$"),
        ("x/z.jpg\n", r"line 1 names image 'x/z\.jpg', .*: check data\.root, or remove a prefix .* with strip_prefix$"),
    ],
)
def test_refuses_lists(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "i/a.jpg", "m/a.png")
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        Folder(images="i", masks="m", list="l.txt").samples(tmp_path)


def test_refuses_arguments_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must hold \{stem\} once"):
        Folder(images="i", masks="m", mask_name="mask.png")
    with pytest.raises(ConfigError, match="both images and masks"):
        Folder(images="i")
    with pytest.raises(DataError, match=r"l\.txt does not exist: check data\.root and the reader's list"):
        Folder(list="l.txt").samples(tmp_path)


def test_camvid(shared: Path) -> None:
    root = shared / "data" / "camvid" / "CamVid"
    by_folder = Folder(images="train", masks="trainannot").samples(root)
    by_list = Folder(list="train.txt", strip_prefix="/SegNet/CamVid/").samples(root)
    assert len(by_folder) == 367
    assert {(sample.image, sample.mask) for sample in by_folder} == {(sample.image, sample.mask) for sample in by_list}
