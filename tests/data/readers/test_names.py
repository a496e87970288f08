"""Names of samples, and the files that names in lists and tables mean."""

import os
import tracemalloc
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg.data import ADE20K, VOC, Cityscapes, Coco, CocoStuff, Folder, Manifest
from lightning_seg.data.readers.finding import Finder, resolve
from lightning_seg.data.readers.names import common_folder, sample_name, unique_names
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.readers.walking import files_below
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample
from tests.data.readers.files import found, touch, write_coco

RAW = os.fsdecode(b"gr\xfcn")
"""A name that is no UTF-8."""

SIGNS = st.text(st.sampled_from("ab./\\~$1ä\udcfc\ud800"), max_size=12)


@given(st.lists(SIGNS, max_size=8))
def test_names_are_unique_plain_and_lead_nowhere_else(paths: list[str]) -> None:
    names = unique_names(paths)
    assert len(set(names)) == len(paths) == len(names)
    for name in names:
        assert name.encode().decode() == name == unicodedata.normalize("NFC", name)
        assert not {"..", ".", ""} & set(name.split("/"))
        assert not PurePosixPath(name).is_absolute()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/1.jpg", "b.jpg", "b.png"], ["a/1", "b.jpg", "b.png"]),
        (["img.jpg", "img.png", "img.jpg.png"], ["img.jpg", "img.png", "img.jpg.png"]),
        (["../../etc/a.jpg", "x/../../b.jpg", "/c.jpg"], ["etc/a", "b", "c"]),
        (["train\\a.jpg", "train/b.c.jpg"], ["train/a", "train/b.c"]),
        (["a.jpg", "../a.jpg", "./a.jpg"], ["a.jpg", "a.jpg~2", "a.jpg~3"]),
        (["a.jpg", "../a.jpg", "a.jpg~2"], ["a.jpg", "a.jpg~3", "a.jpg~2"]),
        ([RAW + ".jpg", unicodedata.normalize("NFD", "ä.jpg")], ["gr%FCn", "ä"]),
        ([], []),
    ],
)
def test_names(paths: list[str], names: list[str]) -> None:
    assert unique_names(paths) == names


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["/d/a/1.jpg", "/d/b/2.jpg"], "/d"),
        (["/d/a/1.jpg"], "/d/a"),
        (["/d/ab/1.jpg", "/d/ac/1.jpg"], "/d"),
        (["a/1.jpg", "b/2.jpg"], "."),
        (["a/1.jpg", "/b/2.jpg"], "."),
        ([], "."),
    ],
)
def test_the_folder_of_all(paths: list[str], folder: str) -> None:
    assert common_folder([Path(path) for path in paths]) == Path(folder)


def test_the_folder_of_many_paths_takes_little_memory() -> None:
    """The parents of each path took nearly 3 kB a path."""
    paths = [Path(f"/data/set/part_{number % 100}/scene_{number}/image.jpg") for number in range(5_000)]
    tracemalloc.start()
    try:
        assert common_folder(paths) == Path("/data/set")
        assert tracemalloc.get_traced_memory()[1] < 1000 * len(paths)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_a_letter_of_two_characters_is_the_same(tmp_path: Path, listed: str, stored: str) -> None:
    disk, text = (unicodedata.normalize(form, "grün/größe") for form in (stored, listed))
    touch(tmp_path, f"i/{disk}.jpg", f"m/{disk}.png")
    (tmp_path / "l.txt").write_text(f"{text}\n")
    (tmp_path / "m.csv").write_text(f"image,mask\ni/{text}.jpg,m/{text}.png\n")
    write_coco(tmp_path, [{"id": 1, "file_name": f"{text}.jpg"}])
    for reader in (
        Folder(images="i", masks="m"),
        Folder(images="i", masks="m", list="l.txt"),
        Manifest(file="m.csv"),
        Coco(annotations="coco.json", images="i"),
    ):
        (sample,) = reader.samples(tmp_path)
        assert sample.image == tmp_path / f"i/{disk}.jpg"
        assert sample.name.removeprefix("i/") == "grün/größe"
    assert resolve(f"i/{text}.jpg", tmp_path) == tmp_path / f"i/{disk}.jpg"
    assert resolve(f"i/{text.split('/')[0]}/", tmp_path) == tmp_path / f"i/{disk.split('/')[0]}"


@pytest.mark.parametrize("name", ["~a", "~root", "$HOME", "a$HOME", "${x}", "$", "~", " a", "a\\b"])
def test_signs_of_a_shell_in_a_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"i/{name}.jpg", f"i/{name}.png")
    (tmp_path / "m.csv").write_text(f"image,mask\ni/{name}.jpg,i/{name}.png\n")
    (tmp_path / "l.txt").write_text(f"{name.strip()}\t\n")
    (sample,) = Manifest(file="m.csv").samples(tmp_path)
    assert (sample.image, sample.mask) == (tmp_path / f"i/{name}.jpg", tmp_path / f"i/{name}.png")
    if name == name.strip():
        (sample,) = Folder(images="i", masks="i", list="l.txt").samples(tmp_path)
        assert (sample.image, sample.mask) == (tmp_path / f"i/{name}.jpg", tmp_path / f"i/{name}.png")
    assert resolve(f"i/{name}.jpg", tmp_path) == tmp_path / f"i/{name}.jpg"


def test_shell_and_windows_spellings_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "i/b/a.jpg", "m/b/a.png")
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for line in ("i\\b\\a.jpg\tm\\b\\a.png", "$MY_DATA/i/b/a.jpg ~/m/b/a.png", " i/b/a.jpg , m/b/a.png "):
        (tmp_path / "l.txt").write_text(line.replace(",", "\t") + "\n")
        assert [sample.image for sample in Folder(list="l.txt").samples(tmp_path)] == [tmp_path / "i/b/a.jpg"]
        (tmp_path / "l.csv").write_text("image, mask\n" + line.replace("\t", ",").replace(" ~", ",~") + "\n")
        assert [sample.mask for sample in Manifest(file="l.csv").samples(tmp_path)] == [tmp_path / "m/b/a.png"]
    (tmp_path / "l.txt").write_text("b\\a\n")
    assert found(Folder(images="i", masks="m", list="l.txt"), tmp_path) == [("b/a", "i/b/a.jpg", "m/b/a.png")]
    write_coco(tmp_path, [{"id": 1, "file_name": "b\\a.jpg"}])
    assert [sample.name for sample in Coco(annotations="coco.json", images="i").samples(tmp_path)] == ["b/a"]


def test_steps_upward_stay_out_of_names(tmp_path: Path) -> None:
    touch(tmp_path, "set/i/a.jpg", "set/m/a.png", "i/a.jpg", "m/a.png")
    (tmp_path / "l.csv").write_text("image,mask\n../i/a.jpg,../m/a.png\ni/a.jpg,m/a.png\n")
    samples = Manifest(file="../l.csv").samples(tmp_path / "set")
    assert [(sample.name, sample.image.resolve()) for sample in samples] == [
        ("i/a.jpg", tmp_path / "i/a.jpg"), ("i/a.jpg~2", tmp_path / "set/i/a.jpg"),
    ]  # fmt: skip
    (tmp_path / "l.txt").write_text("../i/a.jpg ../m/a.png\n")
    assert [sample.name for sample in Folder(list="../l.txt").samples(tmp_path / "set")] == ["i/a"]
    write_coco(tmp_path, [{"id": 1, "file_name": "../../i/a.jpg"}])
    assert [sample.name for sample in Coco(annotations="coco.json", images="set/i").samples(tmp_path)] == ["i/a"]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    touch(tmp_path, f"i/{RAW}.jpg", f"m/{RAW}.png")
    (tmp_path / "l.txt").write_bytes(b"gr\xfcn\n")
    (tmp_path / "l.csv").write_bytes(b"image,mask,note\ni/gr\xfcn.jpg,m/gr\xfcn.png,gr\xfcn\n")
    for reader in (
        Folder(images="i", masks="m"), Folder(images="i", masks="m", list="l.txt"), Manifest(file="l.csv"),
    ):  # fmt: skip
        assert [Path(sample.name).name for sample in reader.samples(tmp_path)] == ["gr%FCn"]
    (tmp_path / "l.txt").write_bytes("grün\nblau\n".encode("latin-1"))
    touch(tmp_path, "i/blau.jpg", "m/blau.png")
    (tmp_path / "i" / f"{RAW}.jpg").rename(tmp_path / "i/grün.jpg")
    (tmp_path / "m" / f"{RAW}.png").rename(tmp_path / "m/grün.png")
    with pytest.raises(OrphanError, match=r"l\.txt, line 1 names image .*, or save the list in UTF-8"):
        Folder(images="i", masks="m", list="l.txt").samples(tmp_path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "i/a.jpg", "m/a.png", "i/locked/b.jpg", "m/locked/b.png")
    (tmp_path / "l.txt").write_text("locked/b\n")
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    for settings in ({}, {"list": "l.txt"}):
        with pytest.raises(DataError, match=r"locked cannot be listed \(Permission denied\): make it readable"):
            Folder(images="i", masks="m", **settings).samples(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "\0"])
def test_paths_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "i/a.jpg")
    for reader in (
        Folder(images=name, masks="i"), Folder(images="i", masks=f"{name}/*"), Folder(images="i", masks="i", list=name),
        Manifest(file=f"{name}.csv"), Coco(annotations=name, images="i"), VOC(root=name, split=name),
        Cityscapes(root=name, split=name), ADE20K(root=name, split="val"), CocoStuff(root=name, split=name),
    ):  # fmt: skip
        with pytest.raises(DataError, match=r"does not exist|cannot be (opened|read) \("):
            reader.samples(tmp_path)


def test_links(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg", "masks/a.png")
    for part in ("i", "m"):
        (tmp_path / part).mkdir()
        for link in ("one", "two"):
            (tmp_path / part / link).symlink_to(tmp_path / ("real" if part == "i" else "masks"))
    (tmp_path / "i" / "above").symlink_to(tmp_path / "i")
    (tmp_path / "i" / "itself").symlink_to("itself")
    samples = Folder(images="i", masks="m").samples(tmp_path)
    assert [sample.name for sample in samples] == ["one/a", "two/a"]
    assert [path.name for path in files_below(tmp_path / "i")] == ["itself", "a.jpg", "a.jpg"]


def test_links_that_lead_nowhere_are_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "m/a.png", "m/c.png")
    for name in ("i/b.jpg", "m/b.png", "i/c.jpg", "i/notes.txt", "m/readme"):
        (tmp_path / name).symlink_to(tmp_path / ".git/annex/objects/gone")
    with pytest.raises(OrphanError) as caught:
        Folder(images="i", masks="m").samples(tmp_path)
    assert str(caught.value) == (
        f"3 files cannot be opened, the first of them: {tmp_path / 'i/b.jpg'} is a link that leads nowhere: fetch what "
        "it links to (git annex get, dvc pull), or remove it"
    )
    assert [sample.name for sample in caught.value.samples] == ["a"]
    assert [(orphan.kind, orphan.path.name) for orphan in caught.value.orphans] == [
        ("unreadable", "b.jpg"), ("unreadable", "c.jpg"), ("unreadable", "b.png"),
    ]  # fmt: skip
    (tmp_path / "l.txt").write_text("a\nb\n")
    with pytest.raises(OrphanError, match=r"line 2 names image 'b\.jpg', but .* leads nowhere: fetch"):
        Folder(images="i", masks="m", list="l.txt").samples(tmp_path)
    write_coco(tmp_path, [{"id": 1, "file_name": "b.jpg"}])
    with pytest.raises(OrphanError, match=r"1 of 1 images .* leads nowhere: fetch what it links to \(git annex get"):
        Coco(annotations="coco.json", images="i").samples(tmp_path)


def test_the_finder_lists_each_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"i/{number}.JPG" for number in range(20)))
    listed: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    finder = Finder()
    for number in range(20):
        assert finder.find(str(number), [tmp_path / "i"], [".png", ".jpg"], any_case=True) == [
            tmp_path / "i" / f"{number}.JPG"
        ]
    assert len(listed) == 1


def test_sample_names_are_what_they_were() -> None:
    assert sample_name("a/b.c/d e") == "a/b.c/d e"
    assert Sample(sample_name(""), Path("x")).name == "_"
