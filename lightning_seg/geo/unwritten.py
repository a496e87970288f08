"""What to say where GDAL cannot write a file."""

import shutil
from pathlib import Path

from lightning_seg.errors import DiskFullError


def unwritten(path: Path, error: Exception) -> DiskFullError:
    """What to say where GDAL cannot write a file: it does not tell a full disk from others, which are rare."""
    free = shutil.disk_usage(path.parent).free / 2**20
    return DiskFullError(
        f"{path} cannot be written: GDAL says {str(error)!r}, and {free:.0f} MiB are free. Make room and give the "
        "command again: rows that are done are kept"
    )
