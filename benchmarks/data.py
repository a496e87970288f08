"""What a training sample costs, against Detectron2's ``DatasetMapper`` and against decoding its two files alone.

Run: python benchmarks/data.py [--samples 24] [--rounds 5]. One process, one thread; 1024×2048 JPEGs of smooth noise
with PNG masks of 19 classes; scale 0.5 to 2, crop 512×1024, flip. The sides take turns, round by round; each ratio is
the median of the rounds', of CPU time, so that other load on the machine matters less. The files are in memory.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import albumentations as A
import cv2
import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.data import DatasetMapper
from sections.figures import add_output, write_figures
from sections.images import CLASSES, SIZE, write_scenes

from lightning_seg.data import Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.data.reading import read_image, read_mask

CROP = (512, 1024)
FILES = 4


def ours(folder: Path) -> SegmentationDataset:
    data = SegmentationDataModule(
        classes=[f"class {index}" for index in range(CLASSES)],
        train=Folder(images=str(folder / "images"), masks=str(folder / "masks")),
        train_transforms=[RandomScaleCrop(*CROP), A.HorizontalFlip()],
        num_workers=0,
        batch_size=1,
    )
    data.setup("fit")
    data.train_dataloader()  # prepares the process
    return data.datasets["train"]


def detectron2s(folder: Path) -> Callable[[int], object]:
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[T.ResizeScale(0.5, 2.0, *SIZE), T.RandomCrop("absolute", CROP), T.RandomFlip()],
        image_format="RGB",
    )
    records = [
        {
            "file_name": str(folder / f"images/{number}.jpg"),
            "sem_seg_file_name": str(folder / f"masks/{number}.png"),
            "height": SIZE[0],
            "width": SIZE[1],
        }
        for number in range(FILES)
    ]
    return lambda index: mapper(records[index % FILES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    add_output(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    np.random.seed(0)  # noqa: NPY002  # what Detectron2 draws from
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder, FILES)
        dataset = ours(folder)
        files = [(sample.image, sample.mask) for sample in dataset.samples]

        def decode(index: int) -> object:
            image, mask = files[index % FILES]
            assert isinstance(mask, Path)
            return read_image(image), read_mask(mask)

        sides: dict[str, Callable[[int], object]] = {
            "ours": lambda index: dataset[Draw(index % FILES, 0, index)],
            "Detectron2's DatasetMapper": detectron2s(folder),
            "decoding alone": decode,
        }
        rounds = [_round(sides, number, arguments.samples) for number in range(arguments.rounds + 1)][1:]
    for side in sides:
        print(f"{side:28s} {statistics.median(times[side] for times in rounds):6.1f} ms")
    figures = {}
    for side in list(sides)[1:]:
        ratios = [times[side] / times["ours"] for times in rounds]
        figures[side] = statistics.median(ratios)
        print(f"ours is {figures[side]:.2f} times as fast as {side} ({min(ratios):.2f} to {max(ratios):.2f})")
    write_figures(arguments.output, figures)


def _round(sides: dict[str, Callable[[int], object]], number: int, samples: int) -> dict[str, float]:
    """Mean milliseconds of CPU time of each side, for the same samples."""
    spent = {}
    for side, take in sides.items():
        start = time.process_time()
        for index in range(number * samples, (number + 1) * samples):
            take(index)
        spent[side] = 1000 * (time.process_time() - start) / samples
    return spent


if __name__ == "__main__":
    main()
