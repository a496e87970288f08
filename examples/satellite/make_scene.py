"""Writes a made-up satellite scene of four bands, and labelled tiles of the same land: stands in for data of your own.

``python examples/satellite/make_scene.py FOLDER`` writes ``train`` and ``val``, each with ``images`` and ``masks``, and
``scene.tif`` with its labels, ``scene_labels.tif``. All are GeoTIFFs of 10 m pixels in UTM zone 32.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.transform import from_origin

SOIL, CROP, WATER = 0, 1, 2
REFLECTANCE = np.array([[1100, 1400, 1800, 2400], [400, 750, 500, 3600], [500, 400, 250, 120]])
"""Of each class in blue, green, red and near infrared, times 10 000, as Sentinel-2's products store it."""

NODATA = 0
SIDE = 192


def labels_of(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Fields of soil and crop, and a river through them: (H, W) uint8."""
    labels = np.full((height, width), SOIL, np.uint8)
    for top in range(0, height, 40):
        for left in range(0, width, 56):
            if generator.random() < 0.5:
                cv2.rectangle(labels, (left, top), (left + 54, top + 38), CROP, cv2.FILLED)
    rows = np.arange(0, height + 20, 20)
    middle = width * generator.uniform(0.3, 0.7) + 25 * np.sin(rows / 60 + generator.uniform(0, 6))
    cv2.polylines(labels, [np.stack([middle, rows], 1).astype(np.int32)], isClosed=False, color=WATER, thickness=14)
    return labels


def bands_of(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """What a satellite sees of the labels: (4, H, W) uint16, with noise, and with haze that no single band can tell."""
    height, width = labels.shape
    haze = cv2.resize(generator.normal(0, 150, (height // 64 + 2, width // 64 + 2)), (width, height))
    seen = REFLECTANCE[labels] + haze[..., None] + generator.normal(0, 120, (height, width, 4))
    return seen.clip(1, 10_000).astype(np.uint16).transpose(2, 0, 1)


def write(file: Path, pixels: np.ndarray, left: float, top: float, **settings: float) -> None:
    """A GeoTIFF in tiles of (bands, H, W), its upper left corner at these UTM coordinates, in metres."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        file, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2], dtype=pixels.dtype,
        crs="EPSG:32632", transform=from_origin(left, top, 10, 10), tiled=True, blockxsize=64, blockysize=64,
        compress="deflate", **settings,
    ) as raster:  # fmt: skip
        raster.write(pixels)


def main(folder: Path) -> None:
    for number in range(16):
        generator = np.random.default_rng([1, number])
        labels = labels_of(generator, SIDE, SIDE)
        left, part = 500_000 + 10 * SIDE * number, "train" if number < 12 else "val"
        name = f"tile_{number:02d}.tif"
        write(folder / part / "images" / name, bands_of(generator, labels), left, 5_400_000, nodata=NODATA)
        write(folder / part / "masks" / name, labels[None], left, 5_400_000)
    generator = np.random.default_rng(2)
    labels = labels_of(generator, 560, 700)
    bands = bands_of(generator, labels)
    outside = np.add.outer(np.arange(560), np.arange(700)) < 150  # the satellite's swath ends in a corner
    bands[:, outside], labels[outside] = NODATA, 255
    write(folder / "scene.tif", bands, 600_000, 5_400_000, nodata=NODATA)
    write(folder / "scene_labels.tif", labels[None], 600_000, 5_400_000, nodata=255)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
