"""Finds the members of a TAR, which has no directory: every header is visited."""

import tarfile
from collections.abc import Iterable

from lightning_seg.data.archives.member import TAR, Member
from lightning_seg.data.archives.names import name_within
from lightning_seg.errors import DataError


def tar_members(archive: str, stamp: tuple[int, int]) -> tuple[Iterable[Member], Iterable[str]]:
    """The members of a TAR in their order, and the folders that it names.

    Raises:
        DataError: if a member's name leads out of it, or it is damaged or cut off between members.
        tarfile.TarError, …: if it is damaged otherwise.
    """
    members: dict[str, Member] = {}
    folders = []
    with tarfile.open(archive, "r:", errors="surrogateescape") as opened:
        for entry in opened:
            opened.members = []  # type: ignore[attr-defined]  # it would keep all
            name = name_within(archive, entry.name)
            if entry.isdir() or not name:
                folders.append(name)
                continue
            members.pop(name, None)
            linked = members.get(name_within(archive, entry.linkname)) if entry.islnk() else None
            if linked is not None:  # the same file under another name
                members[name] = Member(
                    archive, name, stamp, linked.method, linked.start, linked.stored, linked.size, None
                )
                continue
            members[name] = Member(
                archive, name, stamp, _method(entry), entry.offset_data, entry.size, entry.size, None
            )
        _refuse_damage(archive, opened)
    return members.values(), folders


def _method(entry: tarfile.TarInfo) -> str:
    if entry.issparse():
        return "it is stored as a sparse file; make the archive without --sparse"
    if entry.isreg():
        return TAR
    return "it is a link or no file; store the file itself"


def _refuse_damage(archive: str, opened: tarfile.TarFile) -> None:
    """What the library takes for the end of an archive may be a damaged header."""
    assert opened.fileobj is not None
    opened.fileobj.seek(opened.offset)
    block = opened.fileobj.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        state = "is damaged" if block else "is cut off"
        raise DataError(
            f"archive {archive} {state} at byte {opened.offset}, so that the members after it are lost: make or fetch "
            "it anew"
        )
