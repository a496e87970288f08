"""Data sets of bands, and checkpoints that were trained on them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lightning_seg import SegmentationModule
from lightning_seg.colours import default_palette
from lightning_seg.data.evaluation import describe_evaluation
from lightning_seg.data.reading import ReadingRules
from lightning_seg.structures import DatasetInfo
from tests.exporting.files import save, shaken
from tests.geo.rasters import UTM, write
from tests.models.networks import SMALLEST

NAMES = ["water", "meadow", "roof"]

MEAN, STD = [900.0, 1100.0, 1300.0, 2500.0], [300.0, 350.0, 400.0, 900.0]
"""Of the four bands, in the units of uint16; a ten-thousandth of it in those of float32."""

BANDS = [4, 3, 2, 1]
"""That are read, of a file of five."""


def unit(dtype: str) -> float:
    """What a value of uint16 is in the units of a type."""
    return 1e-4 if dtype == "float32" else 1.0


def pixels_of(height: int, width: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    """(H, W, 4) as ``data.bands`` reads it."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(height // 8 + 2, width // 8 + 2, 4)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    values = np.clip(smooth * STD + MEAN, 0, 20000)
    return (values * unit(dtype)).astype(dtype) if dtype == "float32" else np.rint(values).astype(dtype)


def file_of(path: Path, pixels: NDArray[Any], **settings: Any) -> Path:
    """A GeoTIFF of five bands, in which :data:`BANDS` are these (H, W, 4)."""
    stored = np.zeros((5, *pixels.shape[:2]), pixels.dtype)
    for place, band in enumerate(BANDS):
        stored[band - 1] = pixels[..., place]
    return write(path, stored, **{**UTM, **settings})


def data_set(folder: Path, dtype: str, count: int = 4, size: tuple[int, int] = (64, 80)) -> Path:
    """``images/`` and ``masks/``: which class a pixel has follows from its first band."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = pixels_of(*size, dtype, index)
        file_of(folder / f"images/{index}.tif", pixels)
        first = pixels[..., 0] / unit(dtype)
        labels = (first > MEAN[0]).astype(np.uint8) + (first > MEAN[0] + STD[0]).astype(np.uint8)
        Image.fromarray(labels).save(folder / f"masks/{index}.png")
    return folder


def overrides_of(dtype: str) -> dict[str, Any]:
    mean, std = ([value * unit(dtype) for value in given] for given in (MEAN, STD))
    return {**SMALLEST, "MODEL.PIXEL_MEAN": mean, "MODEL.PIXEL_STD": std}


def module_of(dtype: str, **model: Any) -> SegmentationModule:
    """With random weights, whose logits are far apart."""
    torch.manual_seed(0)
    module = SegmentationModule(
        "Misc/semantic_R_50_FPN_1x.yaml", NAMES, overrides=overrides_of(dtype), weights="", **model
    )
    shaken(module.segmentor)
    return module


def saved(path: Path, dtype: str, **model: Any) -> Path:
    """A checkpoint of :func:`module_of`, as one that was trained on such images."""
    save(module_of(dtype, **model), path)
    checkpoint = torch.load(path, weights_only=True)
    info = DatasetInfo(tuple(NAMES), 255, default_palette(len(NAMES)), 4, dtype)
    rules = ReadingRules(bands=tuple(BANDS), dtype=dtype)
    torch.save({**checkpoint, "evaluation": describe_evaluation(info, [], rules, 0, [])}, path)
    return path
