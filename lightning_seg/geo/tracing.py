"""From a label map of any size to a file of polygons."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from lightning_seg.data.reading.gdal import gdal
from lightning_seg.data.reading.storage import named
from lightning_seg.errors import DataError
from lightning_seg.geo.cog import CLASS_NAMES, TILE
from lightning_seg.geo.georeference import Georeference
from lightning_seg.geo.polygons import label_polygons
from lightning_seg.geo.vectors import write_polygons

_LABEL_TYPES = ("uint8", "uint16", "int16", "int32")
_NO_LABEL = 2**31
"""Where a file does not say which label is none: beyond all of their types."""


def polygons_of(labels: Path, path: Path, simplify: float = 0.0) -> int:
    """Write the regions of a label map as polygons: :func:`lightning_seg.geo.vectors.write_polygons`.

    Args:
        labels: a GeoTIFF that ``predict`` wrote, or any raster of one band of class ids.
        path: ends in ``.gpkg`` or ``.geojson``.
        simplify: how far an outline may move, in pixels.

    Returns:
        How many polygons there are.

    Raises:
        UnreadableError: if the label map is missing or damaged.
        DataError: if it is no label map.
        ConfigError, DiskFullError: see ``write_polygons``.
    """
    with named(labels, "label map"), gdal():
        file = rasterio.open(labels)
        place = Georeference.of(file)
    with file:
        if file.count != 1 or file.dtypes[0] not in _LABEL_TYPES:
            raise DataError(
                f"{labels} has {file.count} {'band' if file.count == 1 else 'bands'} of {file.dtypes[0]}, and a label "
                f"map has one of {', '.join(_LABEL_TYPES)}"
            )
        whole = file.nodata is not None and float(file.nodata).is_integer()
        nodata = int(file.nodata) if whole else _NO_LABEL
        return write_polygons(path, label_polygons(_bands(file, labels), nodata), _class_names(file), place, simplify)


def _class_names(file: Any) -> list[str]:
    """Those that ``predict`` wrote; none where the tag is of another program, and holds something else."""
    try:
        names = json.loads(file.tags().get(CLASS_NAMES, "[]"))
    except ValueError:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _bands(file: Any, labels: Path) -> Iterator[NDArray[Any]]:
    for row in range(0, file.height, TILE):
        with named(labels, "label map"), gdal():
            band: NDArray[np.generic] = file.read(1, window=Window(0, row, file.width, min(TILE, file.height - row)))
        yield band
