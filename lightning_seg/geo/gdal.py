"""How GDAL is used: with a cache of a known size, and with errors that say what GDAL says."""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError  # rasterio.shutil lets it through
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from lightning_seg.errors import DiskFullError

CACHE_BYTES = 2**26
"""Decoded blocks that GDAL keeps; its own choice is a twentieth of the machine's memory."""


@contextmanager
def gdal(cache: int = CACHE_BYTES) -> Iterator[None]:
    """A block in which GDAL keeps at most so many bytes of decoded blocks.

    Args:
        cache: in bytes.

    Raises:
        OSError: in place of rasterio's errors, whose own message is ``see previous exception``.
    """
    with rasterio.Env(GDAL_CACHEMAX=cache), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            yield
        except (RasterioError, CPLE_BaseError) as error:
            reasons = [str(each) for each in (error.__cause__, error) if each is not None]
            raise OSError(reasons[0]) from error


def unwritten(path: Path, error: Exception) -> DiskFullError:
    """What to say where GDAL cannot write a file: it does not tell a full disk from others, which are rare."""
    free = shutil.disk_usage(path.parent).free / 2**20
    return DiskFullError(
        f"{path} cannot be written: GDAL says {str(error)!r}, and {free:.0f} MiB are free. Make room and give the "
        "command again: rows that are done are kept"
    )
