"""Archives that are damaged or of kinds that are not read are refused by name; nothing leaves them."""

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import Folder
from lightning_seg.data.archives.member import Member
from lightning_seg.data.archives.places import located, names_in
from lightning_seg.data.reading import read_image, read_mask
from lightning_seg.errors import DataError, UnreadableError
from lightning_seg.sources import AnyFile
from tests.data.archiving import packed


def png(value: int = 7) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 50), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def refused(file: AnyFile, reason: str) -> None:
    with pytest.raises(UnreadableError, match=rf"^mask {file} cannot be read \({reason}\): replace or remove it$"):
        read_mask(file)


def spoil(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    archive = packed({"m/a.png": png(), "m/b.png": png(), "c.bin": bytes(999)}, tmp_path / "a.zip")
    member = located(archive / "m/b.png")
    spoil(archive, member.start + 70, b"\0\0\0")  # type: ignore[union-attr]
    os.utime(archive, ns=(0, member.stamp[1]))  # type: ignore[union-attr]
    refused(member, ".*")
    assert read_mask(located(archive / "m/a.png")).size == (40, 50)

    stored = packed({"a.png": png()}, tmp_path / "b.zip", compression=zipfile.ZIP_STORED)
    spoil(stored, 30 + 5 + 50, b"\0\0\0")
    refused(located(stored / "a.png"), "its bytes are not those of its checksum in the archive")
    spoil(stored, 0, b"XX")
    refused(located(stored / "a.png"), "its header in the archive is damaged")


@pytest.mark.parametrize(("size", "reason"), [(999, "it holds other than .*"), (10**7, "the archive does not hold .*")])
def test_a_size_that_is_not_true_is_refused(size: int, reason: str, tmp_path: Path) -> None:
    archive = packed({"a.png": png()}, tmp_path / "a.zip")
    directory = archive.read_bytes().rindex(b"PK\1\2")
    spoil(archive, directory + 24, struct.pack("<I", size))
    refused(located(archive / "a.png"), reason)


def test_an_archive_that_changed_is_not_read_as_it_was(tmp_path: Path) -> None:
    archive = packed({"a.png": png(), "b.png": png(1)}, tmp_path / "a.zip")
    member = located(archive / "b.png")
    packed({"b.png": png(2)}, archive)
    refused(member, "its archive has changed since it was listed: start again")
    assert read_mask(located(archive / "b.png")).values[0, 0] == 2  # a new look finds the new one
    archive.unlink()
    assert isinstance(member, Member)
    assert not member.exists()


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "i/../../a.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_would_lead_out_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    archive = packed({"b.png": b"", name: b""}, tmp_path / f"set.{kind}")
    with pytest.raises(DataError, match=rf"set\.{kind} has a member named '{name}', which leads out of it: make"):
        Folder(f"set.{kind}", f"set.{kind}").samples(tmp_path)
    assert list(tmp_path.iterdir()) == [archive]


def _encrypted(path: Path) -> None:
    packed({"a.png": png()}, path)
    spoil(path, path.read_bytes().rindex(b"PK\1\2") + 8, b"\1")


def _bzip2(path: Path) -> None:
    packed({"a.png": png()}, path, compression=zipfile.ZIP_BZIP2)


def _zip_link(path: Path) -> None:
    entry = zipfile.ZipInfo("a.png")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")


def _tar_link(kind: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = kind, "../outside.png"
        if kind == tarfile.LNKTYPE:
            entry.linkname = "none.png"
        with tarfile.open(path, "w") as archive:
            archive.addfile(entry)

    return write


@pytest.mark.parametrize(
    ("write", "kind", "reason"),
    [
        (_encrypted, "zip", "it is encrypted; store it without a password"),
        (_bzip2, "zip", "it is compressed by bzip2; store or deflate it"),
        (_zip_link, "zip", "it is a link; store the file that it links to"),
        (_tar_link(tarfile.SYMTYPE), "tar", "it is a link or no file; store the file itself"),
        (_tar_link(tarfile.LNKTYPE), "tar", "it is a link or no file; store the file itself"),
        (_tar_link(tarfile.FIFOTYPE), "tar", "it is a link or no file; store the file itself"),
    ],
)
def test_members_that_are_not_read_say_why(
    write: Callable[[Path], None], kind: str, reason: str, tmp_path: Path
) -> None:
    write(tmp_path / f"a.{kind}")
    refused(located(tmp_path / f"a.{kind}" / "a.png"), reason)


def test_hard_links_of_a_tar_are_the_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "i/a.png").write_bytes(png(9))
    os.link(tmp_path / "i/a.png", tmp_path / "i/b.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "i", "i")
    assert [read_mask(located(tmp_path / "a.tar/i" / name)).values[0, 0] for name in ("a.png", "b.png")] == [9, 9]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst", "a.7z"])
def test_archives_without_single_members_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    for below in ("", "/i"):
        with pytest.raises(DataError, match=rf"{name}: its members cannot be read one by one: unpack it, or make a"):
            Folder(name + below, name).samples(tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_what_is_no_archive_is_named(name: str, tmp_path: Path) -> None:
    for data in (b"", b"GIF", bytes(100), np.random.default_rng(0).bytes(4000)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"archive .*{name} (cannot be read \(.+\): make|is damaged|is cut off)"):
            Folder(f"{name}/i", f"{name}/m").samples(tmp_path)


@pytest.mark.parametrize(("end", "said"), [(700, r"unexpected end of data"), (3 * 1024, "is cut off at byte 3072")])
def test_a_tar_that_is_cut_off_is_refused(end: int, said: str, tmp_path: Path) -> None:
    archive = packed({f"{number}.png": bytes(500) for number in range(9)}, tmp_path / "a.tar")
    archive.write_bytes(archive.read_bytes()[:end])
    with pytest.raises(DataError, match=rf"archive {archive} .*{said}"):
        names_in(archive)


def test_a_tar_with_a_damaged_header_loses_no_member_in_silence(tmp_path: Path) -> None:
    archive = packed({f"{number}.png": bytes(500) for number in range(9)}, tmp_path / "a.tar")
    spoil(archive, 4 * 1024 + 30, b"\xff\xff")
    with pytest.raises(DataError, match=r"is damaged at byte 4096, so that the members after it are lost"):
        names_in(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_last_of_members_of_one_name_counts(kind: str, tmp_path: Path) -> None:
    archive = packed({"a.png": png(1)}, tmp_path / f"a.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(archive, "a") as opened:
            opened.writestr("a.png", png(2))
    else:
        entry = tarfile.TarInfo("./a.png")
        entry.size = len(png(2))
        with tarfile.open(archive, "a") as tar:
            tar.addfile(entry, io.BytesIO(png(2)))
    assert read_mask(located(archive / "a.png")).values[0, 0] == 2


def test_names_in_any_encoding_are_found(tmp_path: Path) -> None:
    archive = packed({"größe.png": png(1), "xx.png": png(2), "yyy.png": png(3)}, tmp_path / "a.zip")
    data = archive.read_bytes().replace(b"xx.png", b"\x81x.png").replace(b"yyy.png", "üy.png".encode())
    archive.write_bytes(data)  # code page 437, and UTF-8 that does not say so
    assert sorted(names_in(archive)) == ["größe.png", "üx.png", "üy.png"]
    assert read_mask(located(archive / "üy.png")).values[0, 0] == 3

    entry = tarfile.TarInfo("gr\udcfcn.png")  # Latin-1
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        tar.addfile(entry)
    assert names_in(tmp_path / "a.tar") == ["gr\udcfcn.png"]

    windows = zipfile.ZipInfo("x")
    windows.filename, windows.create_system = "i\\a.png", 0
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as opened:
        opened.writestr(windows, png(4))
    assert read_mask(located(tmp_path / "w.zip/i/a.png")).values[0, 0] == 4


def test_a_zip_of_64_bits_and_one_behind_other_bytes_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        with archive.open("a.png", "w", force_zip64=True) as member:
            member.write(png(5))
        hole = zipfile.ZipInfo("hole.bin")
        hole.extra = struct.pack("<HH", 0xCAFE, 400) + bytes(400)  # longer than is guessed
        archive.writestr(hole, png(6))
    limit, zipfile.ZIP64_LIMIT = zipfile.ZIP64_LIMIT, 10  # offsets of 64 bits in the directory
    try:
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
            archive.writestr("hole.bin", png(6))
            archive.writestr("a.png", png(5))
    finally:
        zipfile.ZIP64_LIMIT = limit
    assert (tmp_path / "b.zip").read_bytes().count(b"PK\6\6") == 1
    (tmp_path / "c.zip").write_bytes(bytes(1000) + (tmp_path / "a.zip").read_bytes())
    for name in ("a.zip", "b.zip", "c.zip"):
        values = [read_image(located(tmp_path / name / member))[0, 0, 0] for member in ("a.png", "hole.bin")]
        assert values == [5, 6], name
