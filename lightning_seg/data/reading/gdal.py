"""How GDAL is used: with a cache of a known size, and with errors that say what GDAL says.

It is imported only where a TIFF is read by it, since rasterio, of the extra ``geo``, need not be installed.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_seg.errors import DependencyError

try:
    import rasterio
    from rasterio._err import CPLE_BaseError  # rasterio.shutil lets it through
    from rasterio.enums import ColorInterp, MaskFlags
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.windows import Window
except ImportError as error:
    raise DependencyError(
        f"rasterio is not installed ({error}), and bands of TIFFs are read by it: pip install 'lightning_seg[geo]'"
    ) from None

__all__ = ["CACHE_BYTES", "ColorInterp", "MaskFlags", "Window", "gdal", "rasterio"]

CACHE_BYTES = 2**26
"""Decoded blocks that GDAL keeps; its own choice is a twentieth of the machine's memory."""


@contextmanager
def gdal(cache: int = CACHE_BYTES, **options: str) -> Iterator[None]:
    """A block in which GDAL keeps at most so many bytes of decoded blocks.

    Args:
        cache: in bytes.
        **options: of GDAL.

    Raises:
        OSError: in place of rasterio's errors, whose own message is ``see previous exception``.
    """
    with rasterio.Env(GDAL_CACHEMAX=cache, **options), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            yield
        except (RasterioError, CPLE_BaseError) as error:
            reasons = [str(each) for each in (error.__cause__, error) if each is not None]
            raise OSError(reasons[0]) from error
