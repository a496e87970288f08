"""Lists the files below a folder, on disk or in an archive."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from lightning_seg.data.archives.places import archived_below, entries_of
from lightning_seg.errors import DataError


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder in a fixed order; links are followed, hidden files (``._x.png`` of macOS) left out.

    Links that lead nowhere are listed too, so that somebody notices that their files are missing.

    Raises:
        DataError: if a folder cannot be listed.
    """
    return sorted(entries_below(folder))


def entries_below(folder: Path) -> Iterator[Path]:
    """The same files in any order; folders are listed only as far as files are asked for."""
    archived = archived_below(folder)
    return _walk(os.fspath(folder), ()) if archived is None else archived


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    listed = entries_of(folder)
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that it lies in
        return
    folders = []
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            folders.append(entry.path)
        elif entry.is_symlink() or entry.is_file():
            yield Path(entry.path)
    for inner in folders:
        yield from _walk(inner, (*above, here))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return False
        raise DataError(f"{entry.path} cannot be opened ({error.strerror}): make it readable or remove it") from None
