"""Lists and tables in every encoding, with whatever cells hold; and bytes that are none of these."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_seg.data import Coco, Folder, Manifest, Reader
from lightning_seg.errors import DataError
from tests.data.readers.files import touch

NAME = "größe ü"


def readers(root: Path, encoding: str) -> list[Reader]:
    """One sample in a list, a CSV, a JSONL and a COCO file."""
    texts = {
        "l.txt": f"{NAME}\t\r\n",
        "t.csv": f'image,mask,split\r\n"i/{NAME}.jpg",m/{NAME}.png,train\r\n',
        "t.jsonl": json.dumps({"image": f"i/{NAME}.jpg", "mask": f"m/{NAME}.png"}, ensure_ascii=False) + "\r\n",
        "c.json": json.dumps(
            {"images": [{"id": 1, "file_name": f"{NAME}.jpg"}], "categories": [{"id": 1, "name": "öl"}]},
            ensure_ascii=False,
        ),
    }
    for name, text in texts.items():
        (root / name).write_bytes(text.encode(encoding))
    return [
        Folder(images="i", masks="m", list="l.txt"), Manifest(file="t.csv", split="train"),
        Manifest(file="t.jsonl"), Coco(annotations="c.json", images="i"),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_that_says_so(tmp_path: Path, encoding: str) -> None:
    touch(tmp_path, f"i/{NAME}.jpg", f"m/{NAME}.png")
    for reader in readers(tmp_path, encoding):
        assert [sample.image.stem for sample in reader.samples(tmp_path)] == [NAME]
    assert Coco(annotations="c.json", images="i").labels(tmp_path).names == ("background", "öl")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_other_encodings_are_named_with_the_remedy(tmp_path: Path, encoding: str) -> None:
    touch(tmp_path, f"i/{NAME}.jpg", f"m/{NAME}.png")
    for reader in readers(tmp_path, encoding):
        with pytest.raises(DataError, match=r"save (the list|the file|it as text) in UTF-8") as caught:
            reader.samples(tmp_path)
        assert str(tmp_path) in str(caught.value)


def test_a_coco_file_in_latin_1_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes('{\n"images": [],\n"note": "größe"}'.encode("latin-1"))
    with pytest.raises(
        DataError, match=r"c\.json, line 3 is not in UTF-8: save the file in UTF-8, such as with iconv -f"
    ):
        Coco(annotations="c.json", images=".").samples(tmp_path)


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_ends_end_a_line(tmp_path: Path, sign: str) -> None:
    touch(tmp_path, f"i/a{sign}b.jpg", f"m/a{sign}b.png")
    (tmp_path / "l.txt").write_text(f"a{sign}b\n")
    (tmp_path / "t.csv").write_text(f"image,mask\ni/a{sign}b.jpg,m/a{sign}b.png\n")
    row = json.dumps({"image": f"i/a{sign}b.jpg", "mask": f"m/a{sign}b.png"}, ensure_ascii=False)
    (tmp_path / "t.jsonl").write_text(row if sign in "\u2028\x85" else json.dumps(json.loads(row)))
    for reader in (Folder(images="i", masks="m", list="l.txt"), Manifest(file="t.csv"), Manifest(file="t.jsonl")):
        assert len(reader.samples(tmp_path)) == 1


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")
    limit = csv.field_size_limit()
    (tmp_path / "t.csv").write_text(f"image,mask,runs\na.jpg,a.png,{'1 ' * 100_000}\n")
    assert [sample.name for sample in Manifest(file="t.csv").samples(tmp_path)] == ["a"]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("cell", ["train ", " train", "train", '"train "', "\ttrain"])
def test_spaces_around_a_split_do_not_count(tmp_path: Path, cell: str) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png")
    (tmp_path / "t.csv").write_text(f"image,mask,split \na.jpg,a.png,train\nb.jpg,b.png,{cell}\n\n,,\n")
    assert [sample.name for sample in Manifest(file="t.csv", split="train").samples(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,mask,split\na.jpg,a.png,train\nb.jpg,b.png,Train\n", r"of split 'train' and 1 of split 'Train': w"),
        ("image,mask,split\na,b.jpg,a.png,train\n", r'line 2 has 4 cells, but .* 3 columns: .* "a,b\.jpg"'),
        ("image,mask,image\na.jpg,a.png,b.jpg\n", r"has the column image more than once: rename one"),
        ('image,mask,split\n"a.jpg,a.png,train\nb.jpg,b.png,train\n', r"line \d is no CSV: unexpected end"),
        ("image;mask\na.jpg;a.png\n", r"line 1 separates its columns by ';': save the table with commas"),
        ("\nimage\tmask\na.jpg\ta.png\n", r"line 2 separates its columns by '\\t': save the table with commas"),
        ("image,mask,split\na.jpg\n", r"nothing in column 'split': its columns are image, mask, split"),
        ("image,mask,split\n", r"has no row of split 'train'"),
        ("", r"has no row of split 'train'"),
    ],
)  # fmt: skip
def test_tables_that_would_lose_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        Manifest(file="t.csv", split="train").samples(tmp_path)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataError, match=r"t\.csv cannot be read \(Is a directory\): check the reader's file"):
        Manifest(file="t.csv").samples(tmp_path)


LINES = st.text(st.sampled_from('ab~$/\\.\t ,"\n\r\0\u2028ä\udcfc{}[]:'), max_size=40)
"""Text of which lists, tables and paths are made."""

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | LINES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "image_id",
                    "category_id",
                    "file_name",
                    "name",
                    "height",
                    "width",
                    "segmentation",
                    "image",
                    "mask",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


def read_or_refuse(root: Path, content: bytes, name: str) -> None:
    """Either samples whose files are there, or an error that names the file."""
    (root / name).write_bytes(content)
    reader = {
        ".txt": Folder(images="d", masks="d", list=name),
        ".csv": Manifest(file=name),
        ".jsonl": Manifest(file=name),
        ".json": Coco(annotations=name, images="d"),
    }[Path(name).suffix]
    refusal = ""
    samples = []
    try:
        samples = reader.samples(root)
    except DataError as error:
        refusal = str(error)
    reader.release()
    assert samples or name in refusal
    assert all(sample.image.is_file() for sample in samples)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    touch(root, "d/a.jpg", "d/a.png", "d/b.png", "a", "b.jpg")
    return root


@pytest.mark.parametrize("name", ["l.txt", "t.csv", "t.jsonl", "c.json"])
class TestWhateverAFileHolds:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=60) | LINES.map(lambda text: text.encode("utf-8", "surrogateescape")))
    def test_bytes(self, place: Path, name: str, content: bytes) -> None:
        read_or_refuse(place, content, name)
        if name == "t.csv":
            read_or_refuse(place, b"image,mask\n" + content, name)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.fixed_dictionaries(dict.fromkeys(("images", "categories", "annotations"), JSON)) | JSON)
    def test_json(self, place: Path, name: str, data: Any) -> None:
        read_or_refuse(place, json.dumps(data).encode(), name)


@pytest.mark.parametrize("name", ["t.jsonl", "c.json"])
def test_json_that_is_too_deep(place: Path, name: str) -> None:
    read_or_refuse(place, b"[" * 100_000, name)


@pytest.mark.parametrize("name", ["x" * 300, "~\0", "\0", "a/" * 3000 + "b"])
def test_names_that_no_file_can_have(place: Path, name: str) -> None:
    read_or_refuse(place, json.dumps({"image": name, "mask": name}).encode(), "t.jsonl")
    images = {"images": [{"id": 1, "file_name": name}], "categories": []}
    read_or_refuse(place, json.dumps(images).encode(), "c.json")
