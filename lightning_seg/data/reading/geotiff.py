"""Reads bands and windows of TIFFs by GDAL, through rasterio."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.absent import absent_pixels, either
from lightning_seg.data.reading.gdal import ColorInterp, MaskFlags, Window, gdal, rasterio
from lightning_seg.data.reading.header import Header

_NO_FILES_BESIDE = "EMPTY_DIR"
"""A file reads the same in a folder of many, on a slow disk and in an archive, where GDAL looks for none beside it."""


def read_planes(
    source: Path | BinaryIO, header: Header, bands: Sequence[int], rows: slice, columns: slice
) -> tuple[list[NDArray[Any]], NDArray[np.bool_] | None]:
    """Some bands of a part of a TIFF, as stored, and where it holds nothing.

    Args:
        source: the file, or its bytes.
        header: of the file.
        bands: numbers of bands from 1, through all pages.
        rows: as stored, from the first to before the last.
        columns: likewise.

    Returns:
        (h, w) of each band; and (h, w) of where all of them are nodata, one is no number, or a mask of the file's own
        hides them; None: nowhere.

    Raises:
        OSError, ValueError: if the file is damaged, or GDAL does not read it.
    """
    planes: dict[int, NDArray[Any]] = {}
    nodata: dict[int, float | None] = {}
    hidden: NDArray[np.bool_] | None = None
    window = Window.from_slices(rows, columns)
    with gdal(GDAL_DISABLE_READDIR_ON_OPEN=_NO_FILES_BESIDE), _named(source) as name:
        before = 0
        for directory, count in header.layers:
            own = [band - before for band in bands if before < band <= before + count]
            if own:
                with rasterio.open(name if directory == 1 else f"GTIFF_DIR:{directory}:{name}", driver="GTiff") as file:
                    _check(file, header, count)
                    for band, plane in zip(own, file.read(own, window=window), strict=True):
                        planes[before + band], nodata[before + band] = plane, file.nodatavals[band - 1]
                    hidden = either(hidden, hidden_by_mask(file, own, window))
            before += count
    absent = absent_pixels([planes[band] for band in bands], [nodata[band] for band in bands])
    return [planes[band] for band in bands], either(absent, hidden)


def hidden_by_mask(file: Any, bands: Sequence[int], window: Window) -> NDArray[np.bool_] | None:
    """Where an open file's own mask is 0, or its alpha where that is not asked for.

    Args:
        file: a rasterio data set.
        bands: numbers of those that are asked for.
        window: that is asked for.

    Returns:
        (h, w); None: nowhere.
    """
    flags = file.mask_flag_enums[bands[0] - 1]
    if MaskFlags.per_dataset not in flags:
        return None
    if MaskFlags.alpha in flags:
        alpha = file.colorinterp.index(ColorInterp.alpha) + 1
        if alpha in bands:
            return None
        hidden: NDArray[np.bool_] = file.read(alpha, window=window) == 0  # GDAL's mask is of its upper byte
    else:
        hidden = file.read_masks(bands[0], window=window) == 0
    return hidden if hidden.any() else None


def _check(file: Any, header: Header, count: int) -> None:
    if file.shape != header.stored or file.count != count:
        raise ValueError(
            f"GDAL finds {file.count} bands of {file.width}×{file.height} pixels, and the file says otherwise"
        )
    if np.dtype(file.dtypes[0]).kind not in "uif":
        raise ValueError(f"it holds {file.dtypes[0]}, and images are whole numbers or floats")


@contextmanager
def _named(source: Path | BinaryIO) -> Iterator[str]:
    """The name by which GDAL opens a file, or bytes."""
    if isinstance(source, Path):
        yield str(source)
        return
    held = source.getbuffer() if isinstance(source, BytesIO) else source.read()
    with rasterio.MemoryFile(held) as memory:
        try:
            yield memory.name
        except OSError as error:
            raise OSError(str(error).replace(memory.name, "its bytes")) from None
