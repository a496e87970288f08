"""Reads the central directory of a ZIP."""

import contextlib
import stat
import zipfile
from collections.abc import Iterable

from lightning_seg.data.archives.member import DEFLATED, STORED, Member
from lightning_seg.data.archives.names import name_within

_ENCRYPTED = 0x1
_UTF_8 = 0x800
_MS_DOS = 0
_METHODS = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}


def zip_members(archive: str, stamp: tuple[int, int]) -> tuple[Iterable[Member], Iterable[str]]:
    """The members of a ZIP in the order of its directory, and the folders that it names.

    Raises:
        DataError: if a member's name leads out of it.
        zipfile.BadZipFile, …: if it is damaged.
    """
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    members, folders = [], []
    for entry in entries:
        stored = _name(entry)
        name = name_within(archive, stored)
        if stored.endswith("/") or not name:
            folders.append(name)
            continue
        members.append(
            Member(
                archive, name, stamp, _method(entry), entry.header_offset, entry.compress_size, entry.file_size,
                entry.CRC,
            )
        )  # fmt: skip
    return members, folders


def _name(entry: zipfile.ZipInfo) -> str:
    name = entry.filename
    if not entry.flag_bits & _UTF_8 and not name.isascii():
        with contextlib.suppress(UnicodeError):  # macOS writes UTF-8 and does not say so
            name = name.encode("cp437").decode()
    return name.replace("\\", "/") if entry.create_system == _MS_DOS else name


def _method(entry: zipfile.ZipInfo) -> str:
    if entry.flag_bits & _ENCRYPTED:
        return "it is encrypted; store it without a password"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "it is a link; store the file that it links to"
    if entry.compress_type in _METHODS:
        return _METHODS[entry.compress_type]
    name = zipfile.compressor_names.get(entry.compress_type, str(entry.compress_type))  # type: ignore[attr-defined]
    return f"it is compressed by {name}; store or deflate it"
