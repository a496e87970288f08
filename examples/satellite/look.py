"""Opens what predict wrote of a scene, as any program that knows GDAL does.

``python examples/satellite/look.py LABELS.tif POLYGONS.gpkg TRUTH.tif``
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely


def main(labels: Path, polygons: Path, truth: Path) -> None:
    with rasterio.open(labels) as raster:
        found, names = raster.read(1), json.loads(raster.tags()["CLASS_NAMES"])
        left, top = raster.bounds.left, raster.bounds.top
        print(f"{raster.width}×{raster.height} pixels in {raster.crs}, upper left corner at {left:.0f} E {top:.0f} N")
        empty = np.count_nonzero(found == raster.nodata)
        print(f"no data ({raster.nodata:.0f}) in {empty} pixels; overviews {raster.overviews(1)}")
        there = found != raster.nodata
    with rasterio.open(truth) as raster:
        right = found == raster.read(1)
    print(f"right: {right[there].mean():.1%} of the pixels")

    _, _, geometries, fields = pyogrio.raw.read(polygons, columns=["class", "area_m2"])
    shapes = shapely.from_wkb(geometries)
    for name in names:
        of_class = fields[0] == name
        largest = max(shapely.area(shapes[of_class]), default=0)
        hectares = np.sum(fields[1][of_class]) / 10_000
        print(f"{name}: {of_class.sum()} polygons, {hectares:.0f} ha, the largest {largest / 10_000:.0f} ha")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
