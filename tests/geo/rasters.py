"""Rasters as GIS programs write them, and networks that need no training."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin
from torch import Tensor

from lightning_seg.geo.windows import WindowedImage
from lightning_seg.structures import DatasetInfo

INFO = DatasetInfo(("water", "meadow", "Gebäude"), 255, ((0, 0, 200), (20, 200, 20), (180, 20, 20)))
UTM = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}
TURNED = Affine(0.43, 0.25, 500_000, 0.25, -0.43, 5_000_000)


def write(path: Path, bands: np.ndarray, colours: dict[int, Any] | None = None, **settings: Any) -> Path:
    """A TIFF of (bands, H, W) values."""
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, dtype=bands.dtype, **settings) as file:
            file.write(bands)
            if colours is not None:
                file.write_colormap(1, colours)
    return path


def regions(height: int, width: int, labels: int = 3, seed: int = 0, side: int = 7) -> np.ndarray:
    """(H, W) uint8 of rectangles that touch each other by sides and by corners, and stripes over all rows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, labels, (-(-height // side), -(-width // side))).astype(np.uint8)
    whole = cv2.resize(coarse, None, fx=side, fy=side, interpolation=cv2.INTER_NEAREST)[:height, :width].copy()
    whole[:, width // 2 : width // 2 + 2] = 1
    whole[height // 3 : height // 3 + 1] = 1
    return whole


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(3, H, W) uint8 of which :func:`threshold_bands` makes regions."""
    rng = np.random.default_rng(seed)
    noise = rng.random((height // 16 + 2, width // 16 + 2, 3)).astype(np.float32)
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (np.clip(smooth, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1).copy()


def threshold(pixels: Tensor) -> Tensor:
    """Class ids (H, W) uint8 of pixels (3, H, W)."""
    return (pixels[0] > 100).to(torch.uint8) + (pixels[0] > 160).to(torch.uint8)


def threshold_bands(image: WindowedImage, start: int, rows: int = 60) -> Iterator[tuple[int, Tensor]]:
    """Bands as a sliding window gives them: the first begins above the row that is asked for."""
    height, width = image.size
    for row in range(start // rows * rows, height, rows):
        yield row, threshold(image.window(slice(row, min(row + rows, height)), slice(0, width)))


class DiesAtSize(pl.Callback):
    """Kills the process once a file has so many bytes behind its first line."""

    def __init__(self, file: str, size: int) -> None:
        self.file, self.size = Path(file), size

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self.file.is_file() or len(self.file.read_bytes().partition(b"\n")[2]) < self.size:
            time.sleep(0.0002)
        os.kill(os.getpid(), signal.SIGKILL)
