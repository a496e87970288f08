"""Lists what an archive holds."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from lightning_seg.data.archives.kept import kept_tar_members
from lightning_seg.data.archives.member import Member
from lightning_seg.data.archives.zip import zip_members
from lightning_seg.errors import DataError, reason_of


class Index:
    """The files and folders of one archive. Of members of one name, the last one counts, as when it is unpacked.

    Attributes:
        files: members by name.
        folders: the names that lie directly in a folder, by the folder's name; that of the archive itself is empty.
    """

    def __init__(self, members: Iterable[Member], folders: Iterable[str] = ()) -> None:
        self.files = {member.name: member for member in members}
        self.folders: dict[str, dict[str, None]] = {"": {}}
        for name in self.files:
            self._enter(name)
        for name in folders:
            self._enter(f"{name}/")

    def below(self, folder: str) -> Iterator[str]:
        """Names of all files below a folder, relative to it; hidden ones and those of hidden folders are left out."""
        start = f"{folder}/" if folder else ""
        for name in self.files:
            if name.startswith(start):
                relative = name[len(start) :]
                if not (relative.startswith(".") or "/." in relative):
                    yield relative

    def _enter(self, name: str) -> None:
        while name:
            above, _, last = name.rpartition("/")
            known = above in self.folders
            inside = self.folders.setdefault(above, {})
            if last:
                inside[last] = None
            if known:
                return
            name = above


@cache  # a data set may lie in hundreds, which a table names in any order
def index_of(archive: str, stamp: tuple[int, int]) -> Index:
    """The index of an archive, kept until :func:`forget`.

    Args:
        archive: its path, which ends in ``.zip`` or ``.tar``.
        stamp: its size and time.

    Raises:
        DataError: if it is no such archive, damaged, or a member's name leads out of it.
    """
    read = zip_members if archive.lower().endswith(".zip") else kept_tar_members
    try:
        with _collector_paused():
            return Index(*read(archive, stamp))
    except DataError:
        raise
    except Exception as error:  # what the libraries raise of damaged archives is of many kinds
        raise DataError(f"archive {archive} cannot be read ({reason_of(error)}): make or fetch it anew") from None


@contextmanager
def _collector_paused() -> Iterator[None]:
    """So many new objects would be searched for cycles again and again: half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def forget() -> None:
    """Drop all indexes; members need none."""
    index_of.cache_clear()
