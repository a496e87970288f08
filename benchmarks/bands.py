"""What a crop of a large GeoTIFF costs, against reading the whole file and against reading the crop's window alone.

Run: python benchmarks/bands.py [--samples 24] [--rounds 5]. One process, one thread; a GeoTIFF of 4096×4096 pixels, 4
bands of uint16, tiles of 256×256, deflate, and its mask, a GeoTIFF as well; crops of 512×512 pixels at scale 1. The
sides take turns, round by round; each ratio is the median of the rounds', of CPU time. The files are in memory.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window
from sections.figures import add_output, write_figures

from lightning_seg.data import Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.data.reading import read_image, read_mask

SIDE, CROP, CLASSES, FILES = 4096, 512, 5, 2
BANDS = [1, 2, 3, 4]


def write_scenes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, **tiles, **place}
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(FILES):
        coarse = rng.integers(0, 4000, (SIDE // 32, SIDE // 32, len(BANDS))).astype(np.uint16)
        smooth = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) + rng.integers(
            0, 16, (SIDE, SIDE, len(BANDS)), np.uint16
        )
        with rasterio.open(
            folder / f"images/{number}.tif", "w", **profile, count=len(BANDS), dtype="uint16", predictor=2
        ) as file:
            file.write(smooth.transpose(2, 0, 1))
        with rasterio.open(folder / f"masks/{number}.tif", "w", **profile, count=1, dtype="uint8") as file:
            file.write((smooth[..., 0] // 820).astype(np.uint8), 1)


def ours(folder: Path) -> SegmentationDataset:
    data = SegmentationDataModule(
        classes=[f"class {index}" for index in range(CLASSES)],
        train=Folder(images=str(folder / "images"), masks=str(folder / "masks"), mask_name="{stem}.tif"),
        train_transforms=[RandomScaleCrop(CROP, CROP, scale_limits=(1.0, 1.0))],
        bands=BANDS,
        num_workers=0,
        batch_size=1,
    )
    data.setup("fit")
    data.train_dataloader()  # prepares the process
    return data.datasets["train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    add_output(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder)
        dataset = ours(folder)
        files = [(sample.image, sample.mask) for sample in dataset.samples]
        rules = dataset.rules
        places = np.random.default_rng(1)

        def whole(index: int) -> object:
            image, mask = files[index % FILES]
            assert isinstance(mask, Path)
            return read_image(image, rules), read_mask(mask, rules)

        def window(index: int, count: int) -> None:
            top, left = places.integers(0, SIDE - CROP, 2).tolist()
            for path in files[index % FILES][:count]:
                with rasterio.open(str(path)) as file:
                    file.read(window=Window(left, top, CROP, CROP))

        sides: dict[str, tuple[Callable[[int], object], int]] = {
            "a sample": (lambda index: dataset[Draw(index % FILES, 0, index)], arguments.samples),
            "the window of image and mask by rasterio": (lambda index: window(index, 2), arguments.samples),
            "the window of the image by rasterio": (lambda index: window(index, 1), arguments.samples),
            "the whole files": (whole, 2),
        }
        rounds = [_round(sides, number) for number in range(arguments.rounds + 1)][1:]
    for side in sides:
        print(f"{side:42s} {statistics.median(times[side] for times in rounds):7.1f} ms")
    figures = {}
    for side in list(sides)[1:]:
        ratios = [times[side] / times["a sample"] for times in rounds]
        figures[side] = statistics.median(ratios)
        print(f"a sample is {figures[side]:.2f} times as fast as {side} ({min(ratios):.2f} to {max(ratios):.2f})")
    write_figures(arguments.output, figures)


def _round(sides: dict[str, tuple[Callable[[int], object], int]], number: int) -> dict[str, float]:
    """Mean milliseconds of CPU time of each side."""
    spent = {}
    for side, (take, samples) in sides.items():
        start = time.process_time()
        for index in range(number * samples, (number + 1) * samples):
            take(index)
        spent[side] = 1000 * (time.process_time() - start) / samples
    return spent


if __name__ == "__main__":
    main()
