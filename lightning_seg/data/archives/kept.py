"""Keeps what a large TAR holds in the user's cache folder, since finding it takes a visit to every header."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile

from lightning_seg.data.archives.member import Member
from lightning_seg.data.archives.tar import tar_members

_FEW = 1000
"""Members that are found as fast without."""


def kept_tar_members(archive: str, stamp: tuple[int, int]) -> tuple[Iterable[Member], Iterable[str]]:
    """The same as :func:`tar_members`; from the cache, if that can be used and the file has not changed."""
    state = [*stamp, os.stat(archive).st_ctime_ns]
    file = _file_of(archive)
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, half written, or of another version
        content = json.loads(file.read_text())
        if content["state"] == state:
            folders: list[str] = content["folders"]
            return [
                Member(archive, name, stamp, method, start, size, size, None)
                for name, method, start, size in content["members"]
            ], folders
    found, named = tar_members(archive, stamp)
    members = list(found)
    if len(members) >= _FEW:
        with suppress(OSError):
            _write(file, members, [*named], state)
    return members, named


def _file_of(archive: str) -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = blake2b(os.fsencode(os.path.abspath(archive)), digest_size=16).hexdigest()
    return Path(folder, "lightning_seg", "archives", f"{name}.json")


def _write(file: Path, members: Sequence[Member], folders: Sequence[str], state: Sequence[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "archive": os.path.abspath(members[0].archive),
        "state": state,
        "folders": folders,
        "members": [[member.name, member.method, member.start, member.size] for member in members],
    }
    with NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False) as draft:  # others may write it, too
        draft.write(json.dumps(content))
    os.replace(draft.name, file)
