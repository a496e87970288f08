"""Label maps as Cloud-Optimised GeoTIFFs: tiled, compressed, with overviews, readable over a network."""

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window

from lightning_seg.data.reading.gdal import gdal
from lightning_seg.geo.georeference import Georeference
from lightning_seg.geo.unwritten import unwritten
from lightning_seg.structures import DatasetInfo

TILE = 512
"""Side of a tile in pixels; the usual one of Cloud-Optimised GeoTIFFs."""

CLASS_NAMES = "CLASS_NAMES"
"""The tag that holds the names of all classes in id order, as a JSON list."""

_FIRST_OF_UINT16 = 255
"""Classes from which a byte has no room for them and for nodata."""


def nodata_of(info: DatasetInfo) -> int:
    """The value of pixels without a class: the ignore index where it is no class and fits, else the type's largest."""
    largest = int(np.iinfo(dtype_of(info)).max)
    return info.ignore_index if info.num_classes <= info.ignore_index <= largest else largest


def dtype_of(info: DatasetInfo) -> np.dtype[Any]:
    """uint8 up to 255 classes, uint16 above: one value is left for nodata."""
    return np.dtype(np.uint8 if info.num_classes <= _FIRST_OF_UINT16 else np.uint16)


def write_cog(
    path: Path, bands: Iterable[NDArray[Any]], size: tuple[int, int], info: DatasetInfo, place: Georeference
) -> None:
    """Write a label map; the same labels give the same bytes. Memory holds a band.

    The file has tiles of 512×512, DEFLATE, overviews by the most frequent class, class names in the tag
    ``CLASS_NAMES``, and up to 255 classes the palette. On the way there is a second, tiled file beside it.

    Args:
        path: of the file; what is there is replaced once the new one is whole.
        bands: (512, W) class ids and nodata from the top; the last may be lower.
        size: height and width.
        info: class names, palette and ignore index.
        place: where the map lies.

    Raises:
        DiskFullError: if there is no room.
    """
    tiles, draft = path.with_name(path.name + ".tiles"), path.with_name(path.name + ".part")
    beside = [tiles, draft, *(draft.with_name(draft.name + end) for end in (".ovr.tmp", ".ovr", ".aux.xml"))]
    try:
        with gdal():
            checksum = _write_tiles(tiles, bands, size, info, place)
            rasterio.shutil.copy(
                tiles, draft, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=TILE, OVERVIEW_RESAMPLING="MODE",
                BIGTIFF="IF_SAFER", NUM_THREADS=1,
            )  # fmt: skip
            with rasterio.open(draft) as file:
                if _checksum_of(file) != checksum:  # GDAL does not say what fails as it closes a file
                    raise OSError("other labels are read back than were written")
            with draft.open("rb") as written:
                os.fsync(written.fileno())
        draft.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        for left in beside:
            left.unlink(missing_ok=True)


def _write_tiles(
    path: Path, bands: Iterable[NDArray[Any]], size: tuple[int, int], info: DatasetInfo, place: Georeference
) -> int:
    """The checksum of all labels."""
    height, width = size
    dtype = dtype_of(info)
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=dtype, nodata=nodata_of(info),
        tiled=True, blockxsize=TILE, blockysize=TILE, compress="DEFLATE", zlevel=1, bigtiff="IF_SAFER",
        photometric="PALETTE" if dtype == np.uint8 else "MINISBLACK",
    ) as file:  # fmt: skip
        place.write(file)
        file.update_tags(**{CLASS_NAMES: json.dumps(info.names, ensure_ascii=False)})
        if dtype == np.uint8:
            file.write_colormap(1, _colours(info))
        row = checksum = 0
        for band in bands:
            file.write(band, 1, window=Window(0, row, width, len(band)))
            checksum = zlib.crc32(band.tobytes(), checksum)
            row += len(band)
    if row != height:
        raise ValueError(f"{row} rows were given, and {height} are expected")
    return checksum


def _checksum_of(file: Any) -> int:
    checksum = 0
    for row in range(0, file.height, TILE):
        band = file.read(1, window=Window(0, row, file.width, min(TILE, file.height - row)))
        checksum = zlib.crc32(band.tobytes(), checksum)
    return checksum


def _colours(info: DatasetInfo) -> dict[int, tuple[int, int, int]]:
    return {**dict(enumerate(info.palette)), nodata_of(info): info.ignore_colour}
