"""ZIP and TAR archives of files."""

import io
import tarfile
import zipfile
from pathlib import Path


def archived(folder: Path, archive: Path, *, compression: int = zipfile.ZIP_DEFLATED, below: str = "") -> Path:
    """An archive of all files below a folder, of the kind that its name says; links become what they lead to."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return packed({below + path.relative_to(folder).as_posix(): path.read_bytes() for path in files}, archive,
                  compression=compression)  # fmt: skip


def packed(members: dict[str, bytes], archive: Path, *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive of the kind that its name says."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", compression) as opened:
            for name, data in members.items():
                opened.writestr(name, data)
    else:
        with tarfile.open(archive, "w") as tar:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return archive
