"""What counting values costs beside reading them: RGB JPEG and PNG, 4 bands of uint16, 12 bands of float32.

    python benchmarks/audit.py

Per image, in one process: the time to read it, to count its values as the audit does, and of OpenCV's mean and
deviation where it computes them, which the audit of RGB took before.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio
from PIL import Image

from lightning_seg.data.auditing.values import count_values
from lightning_seg.data.reading import ReadingRules, read_image

SIDE = 1024


def milliseconds(work: Callable[[], object], repeats: int = 9) -> float:
    """The least of some."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return 1000 * min(taken)


def smooth(bands: int) -> np.ndarray:
    """(H, W, bands) from 0 to 1, as compressible as photographs."""
    noise = np.random.default_rng(0).random((SIDE, SIDE, bands), np.float32)
    return np.stack([cv2.normalize(cv2.GaussianBlur(band, (0, 0), 2), None, 0, 1, cv2.NORM_MINMAX)
                     for band in noise.transpose(2, 0, 1)], axis=2)  # fmt: skip


def write(path: Path, values: np.ndarray) -> Path:
    if path.suffix != ".tif":
        Image.fromarray(values).save(path)
        return path
    height, width, count = values.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype,
                       compress="deflate") as file:  # fmt: skip
        file.write(values.transpose(2, 0, 1))
    return path


def main() -> None:
    cv2.setNumThreads(1)
    rgb = (smooth(3) * 255).astype(np.uint8)
    cases = {
        "RGB, JPEG": ("a.jpg", rgb),
        "RGB, PNG": ("a.png", rgb),
        "4 bands of uint16": ("b.tif", (smooth(4) * 10_000).astype(np.uint16)),
        "12 bands of float32": ("c.tif", smooth(12)),
    }
    print(f"{SIDE}×{SIDE} pixels, ms an image")
    print(f"{'':22}{'read':>9}{'count':>9}{'OpenCV':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, values) in cases.items():
            path, bands = write(Path(folder, file), values), values.shape[2]
            rules = ReadingRules(bands=None if bands == 3 else tuple(range(1, bands + 1)))
            image = read_image(path, rules)
            before = f"{milliseconds(lambda image=image: cv2.meanStdDev(image)):9.1f}" if bands <= 4 else f"{'-':>9}"
            read = milliseconds(lambda path=path, rules=rules: read_image(path, rules))
            print(f"{name:22}{read:9.1f}{milliseconds(lambda image=image: count_values(image)):9.1f}{before}")


if __name__ == "__main__":
    main()
