"""What ``RandomScaleCrop`` costs, against albumentations' RandomScale, PadIfNeeded and RandomCrop in a row.

Run: python benchmarks/random_scale_crop.py [--draws 200]. One thread, one 1024×2048 image with its mask, scales 0.5 to
2, crops of 512×1024. Both sides see the same scales and places, in turn; the ratio is of total times. Then images of
other types and channels, without a mask: how fast a byte is scaled, against one of RGB.
"""

import argparse
import time
from typing import Any

import albumentations as A
import cv2
import numpy as np
from sections.figures import add_output, write_figures

from lightning_seg.data.transforms import RandomScaleCrop, build_pipeline, reseed


def milliseconds(pipeline: A.Compose, data: dict[str, Any], position: int) -> float:
    reseed(pipeline, 0, 0, position)
    start = time.perf_counter()
    pipeline(**data)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    add_output(parser)
    arguments = parser.parse_args()
    draws = arguments.draws
    figures = {}
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 19, (16, 32)), np.ones((64, 64), int)).astype(np.uint8)
    data = {"image": rng.integers(0, 256, (1024, 2048, 3), np.uint8), "mask": mask}
    crop = {"height": 512, "width": 1024}
    chain = [
        A.RandomScale((-0.5, 1.0), p=1.0),
        A.PadIfNeeded(512, 1024),
        A.RandomCrop(**crop),
    ]
    peer = build_pipeline(chain, 255)
    sides = {
        "RandomScaleCrop": build_pipeline([RandomScaleCrop(**crop)], 255),
        "with max_fraction 0.75": build_pipeline([RandomScaleCrop(**crop, max_fraction=0.75)], 255),
    }
    for name, side in sides.items():
        times = [(milliseconds(side, data, draw), milliseconds(peer, data, draw)) for draw in range(draws)]
        ours, theirs = np.array(times)[draws // 10 :].T
        figures[name] = theirs.sum() / ours.sum()
        print(
            f"{name:24s} {figures[name]:.1f} times faster: {np.median(ours):.1f} ms (at most "
            f"{ours.max():.1f}) against {np.median(theirs):.1f} ms (at most {theirs.max():.1f})"
        )
    rgb = {"image": data["image"]}
    pipeline = sides["RandomScaleCrop"]
    for dtype, channels in (("uint8", 4), ("uint8", 12), ("uint16", 4), ("uint16", 12), ("int16", 4), ("float32", 12)):
        other = {"image": rng.integers(0, 256, (1024, 2048, channels)).astype(dtype)}
        bytes_of_rgb = other["image"].nbytes / rgb["image"].nbytes
        pairs = [[milliseconds(pipeline, one, draw) for one in (rgb, other)] for draw in range(draws)]
        of_rgb, of_other = np.array(pairs)[draws // 10 :].sum(axis=0)
        print(
            f"{channels:2d} channels of {dtype:8s} {bytes_of_rgb * of_rgb / of_other:.2f} times as fast per byte as RGB"
        )
    write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
