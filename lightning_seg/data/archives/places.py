"""Files and folders by their paths, on disk or in an archive: ``/data/set.zip/images/1.png``.

A path goes through an archive where a part of it is a file whose name ends in ``.zip`` or ``.tar``. No archive is
entered that a path does not name.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lightning_seg.data.archives.index import Index, index_of
from lightning_seg.data.archives.member import stamp_of
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile

_ARCHIVE = re.compile(r"\.(?:(zip|tar)|tar\.(?:gz|bz2|xz|zst|lz4|Z)|tgz|tbz2?|txz|tzst|7z|rar)(?=/|$)", re.IGNORECASE)


def is_file(path: str | Path) -> bool:
    """Whether there is a file; links that lead nowhere are none."""
    inside = within(path)
    return os.path.isfile(path) if inside is None or not inside[1] else inside[1] in inside[0].files


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder, or an archive."""
    inside = within(path)
    return os.path.isdir(path) if inside is None else inside[1] in inside[0].folders


def exists(path: str | Path) -> bool:
    """Whether there is a file or a folder."""
    return is_file(path) or is_folder(path)


def names_in(folder: str | Path) -> list[str]:
    """The names of all files and folders that lie directly in a folder, in any order; none where it is no folder.

    Raises:
        DataError: if it cannot be listed.
    """
    if (inside := within(folder)) is not None:
        return list(inside[0].folders.get(inside[1], ()))
    return [entry.name for entry in entries_of(folder)] if os.path.isdir(folder) else []


def entries_of(folder: str | Path) -> list[os.DirEntry[str]]:
    """The entries of one folder on disk, in any order.

    Raises:
        DataError: if it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be listed ({error.strerror}): make it readable") from None


def archived_below(folder: str | Path) -> Iterator[Path] | None:
    """Every file below a folder of an archive in any order, without hidden ones; None of a folder on disk."""
    if (inside := within(folder)) is None:
        return None
    index, name = inside
    start = os.path.join(folder, "")
    return (Path(start + relative) for relative in index.below(name))


def members_like(pattern: Path) -> list[Path]:
    """The files of an archive that a glob means, with ``**`` for any folders; none where it leads into no archive."""
    if (inside := within(pattern)) is None:
        return []
    index, name = inside
    archive = Path(*pattern.parts[: len(pattern.parts) - name.count("/") - 1])
    wanted = name.split("/")
    return [archive / file for file in index.below("") if _is_like(file.split("/"), wanted)]


def _is_like(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_is_like(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _is_like(parts[1:], wanted[1:])


def located(path: Path) -> AnyFile:
    """What a sample holds of a file: its path, or the member of an archive that the path means."""
    inside = within(path)
    return path if inside is None else inside[0].files.get(inside[1], path)


def within(path: str | Path) -> tuple[Index, str] | None:
    """The index of the archive that a path goes through, and the name in it, empty for the archive; None on disk.

    Raises:
        DataError: if the archive cannot be read, or is of a kind whose members cannot be read one by one.
    """
    text = os.fspath(path)
    for match in _ARCHIVE.finditer(text):
        archive = text[: match.end()]
        try:
            status = os.stat(archive)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            continue
        if match[1] is None:
            raise DataError(
                f"archive {archive}: its members cannot be read one by one: unpack it, or make a .zip or an "
                "uncompressed .tar of it"
            )
        name = os.path.normpath(text[match.end() + 1 :] or ".")
        if name.startswith("../") or name in ("..",):
            return None  # it leads out
        return index_of(archive, stamp_of(status)), "" if name == "." else name
    return None
