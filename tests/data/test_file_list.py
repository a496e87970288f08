"""Which files a split is made of, as a table that tells data sets apart."""

import csv
import gzip
import hashlib
import io
import time
from pathlib import Path

import pytest

from lightning_seg.data.listing.files import COLUMNS, FileLists, file_digest
from lightning_seg.structures import Annotations, Sample


def listed(samples: list[Sample], root: Path | None, seconds: float = 60) -> tuple[list[dict[str, str]], FileLists]:
    lists = FileLists({"train": samples}, root)
    lists.start()
    lists.finish(seconds)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(lists.tables["train"]).decode())))
    return rows, lists


def test_rows_are_paths_sizes_and_digests(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "a.png").write_bytes(b"labels, to compare")
    samples = [Sample("a", tmp_path / "a.jpg", tmp_path / "a.png"), Sample("b", tmp_path / "none.jpg")]
    rows, lists = listed(samples, tmp_path)
    assert tuple(rows[0]) == COLUMNS
    digests = [hashlib.blake2b(text, digest_size=16).hexdigest() for text in (b"image", b"labels, to compare")]
    assert list(rows[0].values()) == ["a", "a.jpg", "5", digests[0], "a.png", "18", digests[1]]
    assert list(rows[1].values()) == ["b", "none.jpg", "", "", "", "", ""]
    assert lists.unread == {"train": 1}
    assert listed(samples, None)[0][0]["image"] == (tmp_path / "a.jpg").as_posix()


def test_equal_data_elsewhere_is_an_equal_table(tmp_path: Path) -> None:
    tables = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.jpg").write_bytes(b"image")
        tables.append(listed([Sample("a", tmp_path / place / "a.jpg")], tmp_path / place)[1].tables)
    assert tables[0] == tables[1]


@pytest.mark.parametrize(("place", "seen"), [(0, True), (64 * 1024, False), (-1, True)])
def test_large_images_are_read_at_both_ends_and_labels_whole(tmp_path: Path, place: int, seen: bool) -> None:
    content = bytearray(3 * 64 * 1024)
    (tmp_path / "old").write_bytes(content)
    content[place] = 1
    (tmp_path / "new").write_bytes(content)
    assert file_digest(tmp_path / "old", whole=True) != file_digest(tmp_path / "new", whole=True)
    assert (file_digest(tmp_path / "old", whole=False) != file_digest(tmp_path / "new", whole=False)) == seen


def test_shared_annotations_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "all.json"
    file.write_text("{}")
    (tmp_path / "a.jpg").write_bytes(b"image")
    asked = []
    monkeypatch.setattr(
        "lightning_seg.data.listing.files.file_digest",
        lambda path, whole: asked.append(path.name) or file_digest(path, whole),
    )
    in_memory = Sample("c", tmp_path / "a.jpg", Annotations("data set 'x'", ()))
    rows, lists = listed([Sample(n, tmp_path / "a.jpg", Annotations(str(file), ())) for n in "ab"] + [in_memory], None)
    assert asked.count("all.json") == 1
    assert rows[0]["labels_digest"] == rows[1]["labels_digest"] != ""
    assert (rows[2]["labels"], rows[2]["labels_digest"], lists.unread["train"]) == ("data set 'x'", "", 1)


def test_time_is_bounded_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path, whole: bool) -> tuple[int, str]:
        time.sleep(0.01)
        return 1, "digest"

    monkeypatch.setattr("lightning_seg.data.listing.files.file_digest", slow)
    lists = FileLists({"train": [Sample(str(number), tmp_path / "x.jpg") for number in range(2000)]}, tmp_path)
    lists.start()
    time.sleep(1)
    started = time.monotonic()
    lists.finish(0.2)
    assert time.monotonic() - started < 5
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(lists.tables["train"]).decode())))
    read = [row["image_digest"] for row in rows].count("digest")
    # About 10 in the second in which it shares the CPU (else 100), then 20 in a hurry.
    assert 3 <= read <= 60
    assert len(rows) == 2000
    assert lists.unread["train"] == 2000 - read
