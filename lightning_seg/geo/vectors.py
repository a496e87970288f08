"""Polygons of a label map as GeoPackage or GeoJSON, written as they come."""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio import raw
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from rasterio.crs import CRS
from rasterio.warp import transform as reproject

from lightning_seg.errors import ConfigError, reason_of
from lightning_seg.files import replacing
from lightning_seg.geo.georeference import Georeference
from lightning_seg.geo.polygons import LabelPolygon
from lightning_seg.geo.unwritten import unwritten

FORMATS = (".gpkg", ".geojson")

_BATCH = 5000
"""Polygons that are written at once."""
_LAYER = "labels"
_WGS84 = CRS.from_epsg(4326)
_DIGITS = 7
"""Of longitudes and latitudes, as RFC 7946 advises: a centimetre."""
_DATE = "2000-01-01T00:00:00.000Z"
"""What a GeoPackage says of its last change, so that the same polygons make the same file."""


def write_polygons(
    path: Path, polygons: Iterable[LabelPolygon], names: Sequence[str], place: Georeference, simplify: float = 0.0
) -> int:
    """Write polygons with ``class``, ``class_id``, ``pixels`` and ``area_m2``; memory holds some thousands.

    A GeoPackage has the coordinates of the image, a GeoJSON longitudes and latitudes (WGS 84, RFC 7946). Where the
    image says nothing of its place, both have pixels: x to the right, y downward. ``pixels`` and ``area_m2`` are those
    of the region, before it is simplified; ``area_m2`` is null where the coordinates are no lengths.

    Args:
        path: ends in ``.gpkg`` or ``.geojson``; what is there is replaced once the new file is whole.
        polygons: in pixels of the image.
        names: of the classes, in id order; an id without a name is its own.
        place: where the image lies.
        simplify: how far an outline may move, in pixels; 0: not at all. Each polygon is simplified by itself, so that
            neighbours may overlap or leave gaps of that width.

    Returns:
        How many polygons there are.

    Raises:
        ConfigError: if the name ends otherwise, nothing can be written there, or ``simplify`` is negative.
        DiskFullError: if there is no room.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"polygons cannot be written to {path}: give a name that ends in {' or '.join(FORMATS)}")
    if not simplify >= 0:
        raise ConfigError(f"polygons cannot be simplified by {simplify:g} pixels: give 0 or more")
    rows = _Rows(names, place, simplify)
    batches = (rows.of(batch) for batch in _batched(polygons))
    write = _write_geopackage if path.suffix == ".gpkg" else _write_geojson
    try:
        return write(path, batches, place)
    except OSError as error:
        raise ConfigError(f"polygons cannot be written to {path} ({reason_of(error)}): give another path") from None


class _Rows:
    """Makes rows of a table of polygons: geometries in the image's coordinates, and columns."""

    def __init__(self, names: Sequence[str], place: Georeference, simplify: float) -> None:
        self._names = dict(enumerate(names))
        self._transform = place.transform
        self._simplify = simplify
        self._square_metres = np.nan
        if place.crs is not None and place.transform is not None and place.crs.is_projected:
            self._square_metres = abs(place.transform.determinant) * place.crs.linear_units_factor[1] ** 2

    def of(self, polygons: list[LabelPolygon]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        outlines = np.array([polygon.geometry for polygon in polygons], object)
        if self._simplify > 0:
            outlines = shapely.simplify(outlines, self._simplify)
        if self._transform is not None:
            a, b, c, d, e, f = self._transform[:6]
            outlines = shapely.transform(outlines, lambda points: points @ np.array([[a, d], [b, e]]) + (c, f))
        ids = [polygon.label for polygon in polygons]
        pixels = np.array([polygon.pixels for polygon in polygons], np.int64)
        columns = {
            "class": np.array([self._names.get(label, str(label)) for label in ids], object),
            "class_id": np.array(ids, np.int32),
            "pixels": pixels,
            "area_m2": pixels * self._square_metres,
        }
        return outlines, columns


_Batches = Iterator[tuple[NDArray[Any], dict[str, NDArray[Any]]]]


def _write_geopackage(path: Path, batches: _Batches, place: Georeference) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.stem + ".part" + path.suffix)  # GDAL warns of other suffixes
    crs = None if place.crs is None or place.transform is None else place.crs.to_wkt()
    draft.unlink(missing_ok=True)
    count = 0
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            for outlines, columns in batches:
                raw.write(
                    str(draft), shapely.to_wkb(outlines), list(columns.values()), np.array(list(columns), object),
                    layer=_LAYER, driver="GPKG", geometry_type="Polygon", crs=crs, append=count > 0,
                )  # fmt: skip
                count += len(outlines)
        draft.replace(path)
    except (DataSourceError, DataLayerError, FeatureError) as error:
        raise unwritten(path, error) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
        for end in ("", "-journal", "-wal", "-shm"):
            draft.with_name(draft.name + end).unlink(missing_ok=True)
    return count


def _write_geojson(path: Path, batches: _Batches, place: Georeference) -> int:
    count = 0
    with replacing(path, "w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for outlines, columns in batches:
            places = _on_the_globe(outlines, place)
            areas = columns["area_m2"].astype(object)
            areas[np.isnan(columns["area_m2"])] = None
            table = {**columns, "area_m2": areas}
            for outline, *values in zip(places, *(column.tolist() for column in table.values()), strict=True):
                said = dict(zip(table, values, strict=True))
                feature = {"type": "Feature", "properties": said, "geometry": shapely.geometry.mapping(outline)}
                file.write((",\n" if count else "\n") + json.dumps(feature, ensure_ascii=False))
                count += 1
        file.write("\n]}\n")
    return count


def _on_the_globe(outlines: NDArray[Any], place: Georeference) -> NDArray[Any]:
    """Longitudes and latitudes, outer rings counterclockwise; the same coordinates where the place is not known."""
    if place.crs is not None and place.transform is not None:
        crs = place.crs

        def to_degrees(points: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = reproject(crs, _WGS84, points[:, 0], points[:, 1])
            return np.round(np.stack([x, y], 1), _DIGITS)

        outlines = shapely.transform(outlines, to_degrees)
    return np.array([shapely.geometry.polygon.orient(outline) for outline in outlines], object)


def _batched(polygons: Iterable[LabelPolygon]) -> Iterator[list[LabelPolygon]]:
    """At least one batch, so that a map without regions makes a file without polygons."""
    rest = iter(polygons)
    yield list(islice(rest, _BATCH))
    while batch := list(islice(rest, _BATCH)):
        yield batch
