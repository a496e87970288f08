"""Files that are whole at every moment: the old one or the new one, also where the process or the machine dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

DRAFT_SUFFIX = ".part"
"""How the name of a file ends that is still being written."""


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write to, which takes the place of ``path`` at the end, or vanishes where writing fails.

    It lies in the same folder, since a rename is only atomic within a file system, and is synced before it is renamed,
    since the rename could reach the disk first. Only one process may write a path.

    Args:
        path: of the file; its folder is made where it is missing.
        mode: ``wb`` or ``w``; line ends are left as they are written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + DRAFT_SUFFIX)
    try:
        with draft.open(mode, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder last: a renamed file may have its old name after a power cut otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_drafts(folder: Path) -> None:
    """Remove what a killed process left half written below ``folder``."""
    for draft in folder.rglob(f"*{DRAFT_SUFFIX}"):
        draft.unlink(missing_ok=True)
