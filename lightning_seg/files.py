"""Writes files that are whole at every moment, old or new, even if the process or the machine dies.

It also keeps files from being written outside their folder.
"""

import codecs
import errno
import hashlib
import io
import locale
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lightning_seg.errors import DataError, DiskFullError

DRAFT_SUFFIX = ".part"
"""The end of the name of a file that is being written."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, a used-up quota, and a file larger than the process may write."""

_BYTES_AT_ONCE = 2**22


@contextmanager
def replacing(path: Path, mode: str = "wb", *, synced: bool = True) -> Iterator[IO[Any]]:
    """Open a file to write to. At the end it replaces ``path``; if writing fails, it vanishes.

    It lies in the same folder, since a rename is only atomic within a file system. It is synced before it is renamed,
    since the rename could reach the disk first. Only one process may write a path.

    Args:
        path: of the file; its folder is made if it is missing.
        mode: ``wb`` or ``w``; line ends are left as they are written.
        synced: whether the file must outlive a power cut; it takes some milliseconds.

    Raises:
        DiskFullError: if there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + DRAFT_SUFFIX)
    try:
        with naming_full_disk(path), draft.open(mode, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(path.parent)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Name the file where a write fails for want of room; torch, whose own message is ``unexpected pos``, included.

    Args:
        path: of the file, or of its folder if the file is not known.

    Raises:
        DiskFullError: says how much room there is, and whether the earlier file is still there.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if (code := lacks_room(error)) is None:
            raise
        kept = f" The earlier {path.name} is still there and whole." if path.is_file() else ""
        raise DiskFullError(
            f"{path} cannot be written: {os.strerror(code)} ({_describe_room(path)}).{kept} Make room and give the "
            "command again; a training goes on with --ckpt_path last"
        ) from error


def lacks_room(error: BaseException | None) -> int | None:
    """The system's error number if a write failed for lack of room, also if another error hides it; else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _describe_room(path: Path) -> str:
    usage = shutil.disk_usage(path.parent)
    return f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB are free"


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path from the root, without ``..``; ``Path.resolve`` would follow links, which may lead elsewhere."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def inside(folder: Path, name: str) -> Path:
    """The path of a file that is named after a sample; its folder is made if it is missing.

    Raises:
        DataError: if it would lie outside ``folder``, as with ``../b.png``.
    """
    path = absolute(folder / name)
    if absolute(folder) not in path.parents:
        raise DataError(
            f"a sample is named {name!r}, which leads out of {folder}: name it by a relative path without '..' "
            "(lightning_seg.data.readers.names.unique_names does)"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def sha256(path: Path) -> str:
    """Of all bytes of a file, in hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def use_utf8() -> None:
    """Read and write text as UTF-8 with every locale, and let no print fail.

    A configuration is UTF-8 on every machine, and a file name may be no valid text.
    """
    if codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8":
        for name in ("C.UTF-8", "en_US.UTF-8", "UTF-8"):
            try:
                locale.setlocale(locale.LC_CTYPE, name)
                break
            except locale.Error:
                continue
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder; else a renamed file may have its old name after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_drafts(folder: Path) -> None:
    """Remove files below ``folder`` that a killed process left half written."""
    for draft in folder.rglob(f"*{DRAFT_SUFFIX}"):
        draft.unlink(missing_ok=True)
