"""Made-up street-sized images: JPEGs of 1024×2048 with PNG masks of 19 classes."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (1024, 2048)
CLASSES = 19


def write_scenes(folder: Path, files: int, names: int | None = None, size: tuple[int, int] = SIZE) -> None:
    """Noise on all scales, coarse ones the stronger, as in photographs: 300 to 500 KB as JPEG of quality 95.

    Args:
        folder: gets ``images`` and ``masks``.
        files: how many different ones are made, on all CPUs.
        names: how many there are by name; those beyond ``files`` are links.
        size: height and width.
    """
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(_write_scene, [folder] * files, range(files), [size] * files))
    for number in range(files, names or files):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            os.link(folder / kind / f"{number % files}.{suffix}", folder / kind / f"{number}.{suffix}")


def _write_scene(folder: Path, number: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(number)
    noise = sum(0.66**octave * _enlarged(rng, 2**octave, 3, size) for octave in range(1, 11))
    image = np.clip(128 + 50 * noise / np.std(noise), 0, 255).astype(np.uint8)
    Image.fromarray(image).save(folder / f"images/{number}.jpg", quality=95)
    mask = _enlarged(rng, 12, CLASSES, size).argmax(axis=2).astype(np.uint8)
    mask[:: size[0] // 2, : size[1] // 32] = 255
    Image.fromarray(mask).save(folder / f"masks/{number}.png")


def _enlarged(rng: np.random.Generator, cells: int, channels: int, size: tuple[int, int]) -> NDArray[np.float32]:
    grid = rng.standard_normal((cells, 2 * cells, channels)).astype(np.float32)
    planes = [cv2.resize(grid[..., index], size[::-1], interpolation=cv2.INTER_CUBIC) for index in range(channels)]
    return np.stack(planes, axis=2)
