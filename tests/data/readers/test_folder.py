"""The Folder reader: what it finds, and how it refuses."""

from pathlib import Path

import pytest

from lightning_seg.data import Folder
from lightning_seg.errors import ConfigError, DataError
from tests.data.readers.files import found, touch


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


def test_braces_in_a_pattern_are_braces(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "m/a_{L}.png")
    (tmp_path / "l.txt").write_text("a\n")
    for how in ({}, {"list": "l.txt"}):
        reader = Folder(images="i", masks="m", mask_name="{stem}_{{L}}.png", **how)
        assert found(reader, tmp_path) == [("a", "i/a.jpg", "m/a_{L}.png")]


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
    with pytest.raises(ConfigError, match=r"must hold a part that image and mask share, such as \{stem\}"):
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


SHARED = {
    "tif": ["d/a.tif", "d/a.png"],
    "bmp": ["d/a.bmp", "d/a.png"],
    "webp": ["d/a.webp", "d/a.png"],
    "JPG": ["d/a.JPG", "d/a.png"],
    "PNG": ["d/a.jpg", "d/a.PNG"],
}


@pytest.mark.parametrize("files", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("listed", [True, False])
def test_an_image_beside_its_mask(tmp_path: Path, files: list[str], listed: bool) -> None:
    touch(tmp_path, *files)
    (tmp_path / "l.txt").write_text("a\n")
    reader = Folder(images="d", masks="d", **{"list": "l.txt"} if listed else {})  # type: ignore[arg-type]
    assert found(reader, tmp_path) == [("a", *files)]


@pytest.mark.parametrize("listed", ["a", "a.jpg", "i/a.jpg m/a.png", None])
def test_suffixes_in_any_case(tmp_path: Path, listed: str | None) -> None:
    touch(tmp_path, "i/a.JPG", "m/a.Png")
    (tmp_path / "l.txt").write_text(f"{listed}\n")
    reader = Folder(images="i", masks="m", list=listed and "l.txt")
    assert [(sample.image.name, sample.mask.name) for sample in reader.samples(tmp_path)] == [("a.JPG", "a.Png")]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "line", "message"),
    [
        (
            ["i/a.jpg", "i/a.tif", "m/a.png"],
            "a",
            r"line 1 names image 'a\.jpg', which may be .*a\.jpg or .*a\.tif: write",
        ),
        (["i/a.jpg", "i/a.JPG", "m/a.png"], "a", r"which may be .*a\.(jpg|JPG) or .*a\.(jpg|JPG)"),
        (["i/a.jpg", "m/a.png", "m/a.PNG"], "a", r"line 1 names mask 'a\.png', which may be .*m/a\..* or .*m/a\."),
        (["i/a.jpg", "m/a.png", "m/a.PNG"], "a.jpg", r"line 1 names mask 'a\.png', which may be"),
        (["i/a.JPG", "i/a.Jpg", "m/a.png"], "a.jpg", r"names image 'a\.jpg', which may be"),
        (["i/a.png"], "i/a.png i/a.png", r"line 1 pairs .*i/a\.png with itself: name an image and its mask"),
        (["i/a.jpg", "m/a.png"], "a\nb/../a", r"line 2 names a again"),
    ],
)
def test_refuses_lists_that_may_mean_two_files(tmp_path: Path, files: list[str], line: str, message: str) -> None:
    touch(tmp_path, "m/x.png", *files)
    (tmp_path / "l.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        Folder(images="i", masks="m", list="l.txt").samples(tmp_path)


def test_a_line_with_both_paths_means_those_files(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "i/a.JPG", "m/a.png", "m/a.PNG")
    (tmp_path / "l.txt").write_text("i/a.JPG m/a.png\n")
    assert found(Folder(images="i", masks="m", list="l.txt"), tmp_path) == [("i/a", "i/a.JPG", "m/a.png")]


def test_two_masks_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "m/a.png", "m/a.PNG")
    with pytest.raises(
        DataError, match=r"several masks of the same name for one image: a \(a\.\w+, a\.\w+\); rename one"
    ):
        Folder(images="i", masks="m").samples(tmp_path)


def test_a_list_of_one_folder_without_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "d/a.png")
    (tmp_path / "l.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"line 1 names image 'a\.jpg', but .*d/a\.jpg does not exist"):
        Folder(images="d", masks="d", list="l.txt").samples(tmp_path)


def test_scene_folders(tmp_path: Path) -> None:
    touch(tmp_path, "s1/images/a.jpg", "s1/masks/a.png", "s2/images/x/a.jpg", "s2/masks/x/a.png", "s3/notes/a.jpg")
    expected = [
        ("s1/a", "s1/images/a.jpg", "s1/masks/a.png"),
        ("s2/x/a", "s2/images/x/a.jpg", "s2/masks/x/a.png"),
    ]
    assert found(Folder(images="*/images", masks="*/masks"), tmp_path) == expected
    assert found(Folder(images="s?/images", masks="s[12]/masks"), tmp_path) == expected
    assert found(Folder(images="*/images", masks="*/images/../masks"), tmp_path)[0][0] == "s1/a"
    (tmp_path / "l.txt").write_text("x/a\n")
    with pytest.raises(ConfigError, match=r"Folder\(images='\*/images'\) means several folders, .* write both paths"):
        Folder(images="*/images", masks="*/masks", list="l.txt").samples(tmp_path)


def test_scene_folders_in_one(tmp_path: Path) -> None:
    touch(tmp_path, "s1/a.jpg", "s1/a.png", "s2/a.jpg", "s2/a.png", ".s3/a.jpg")
    assert [name for name, *_ in found(Folder(images="*", masks="*"), tmp_path)] == ["s1/a", "s2/a"]


def test_a_scene_without_masks_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "s1/images/a.jpg", "s1/masks/a.png", "s2/images/a.jpg")
    with pytest.raises(DataError, match=r"1 of 2 images in .*\*/images have no mask .* in .*\*/masks: s2/a;"):
        Folder(images="*/images", masks="*/masks").samples(tmp_path)


def test_a_folder_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    root = tmp_path / "set [1] *"
    touch(root, "i [a]/a.jpg", "m*/a.png", "mx/a.png", "1/i/a.jpg", "1/m/a.png")
    assert [name for name, *_ in found(Folder(images="i [a]", masks="m*"), root)] == ["a"]
    assert [name for name, *_ in found(Folder(images="*/i", masks="*/m"), root)] == ["1/a"]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ("*/pictures", DataError, r"no folder matches the reader's images .*\*/pictures: check data\.root and images"),
        (
            "none/*/images",
            DataError,
            r"folder of images .*none does not exist: check data\.root and the reader.s images",
        ),
        ("**/images", ConfigError, r"images: '\*\*/images' holds \*\*: write one \* for each folder"),
    ],
)
def test_refuses_scene_folders(tmp_path: Path, images: str, error: type[Exception], message: str) -> None:
    touch(tmp_path, "s1/images/a.jpg", "s1/masks/a.png")
    with pytest.raises(error, match=message):
        Folder(images=images, masks="*/masks").samples(tmp_path)


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (["i/a.jpg", "i/b.jpg", "m/a_mask.png", "m/b_mask.png"], r"\(mask_name: '\{stem\}_mask\.png' would fit; or li"),
        (["i/a.jpg", "i/b.jpg", "m/a.tif", "m/b.tif"], r"\(mask_name: '\{stem\}\.tif' would fit"),
        (
            ["i/c/1_left.png", "i/d/2_left.png", "m/c/1_ids.png", "m/d/2_ids.png"],
            r"\(image_name: '\{stem\}_left' and mask_name: '\{stem\}_ids\.png' would fit",
        ),
        (
            ["i/img_1.png", "i/img_12.png", "m/mask_1.png", "m/mask_12.png"],
            r"\(image_name: 'img_\{stem\}' and mask_name: 'mask_\{stem\}\.png' would fit",
        ),
        (["i/a.jpg", "i/b.jpg", "m/a.jpg", "m/b.jpg"], r"jpg' would fit, but JPEG changes label values: export "),
        (["i/a.jpg", "i/b.jpg", "m/x.png", "m/y.png"], r"or pair them in a text file, an image and a mask path a line"),
        (["i/a.jpg", "i/b.jpg", "m/a.png"], r"mend mask_name, or pair them in a text file, .*: list: pairs\.txt"),
    ],
)  # fmt: skip
def test_orphans_name_the_pattern_that_would_fit(tmp_path: Path, files: list[str], advice: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=advice):
        Folder(images="i", masks="m").samples(tmp_path)


def test_the_pattern_that_is_advised_does_fit(tmp_path: Path) -> None:
    touch(tmp_path, "d/img_1.png", "d/img_22.png", "d/img_1.label.png", "d/img_22.label.png")
    with pytest.raises(DataError, match=r"\(mask_name: '\{stem\}\.label\.png' would fit") as caught:
        Folder(images="d", masks="d", mask_name="{stem}_mask.png").samples(tmp_path)
    assert "img_22" in str(caught.value)
    assert len(found(Folder(images="d", masks="d", mask_name="{stem}.label.png"), tmp_path)) == 2
