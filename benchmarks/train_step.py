"""A training step of this project (module and Lightning's loop) against one of Detectron2's ``SimpleTrainer``.

Run: python benchmarks/train_step.py [--pairs 5] [--steps 6] [--threads 1]
On a CPU; benchmarks/gpu.py measures steps on a GPU. The same network, weights, batch, optimiser and threads on both
sides, which take turns; what counts is the median of the ratios of neighbours. The batch lies in memory: loading has a
benchmark of its own. A second table compares bf16-mixed with channels_last here with fp32 there.
"""

import argparse
import statistics
from typing import Any

import pytorch_lightning as pl
import torch
from sections.figures import add_output, write_figures
from sections.loop import make_batch
from sections.training import ours, theirs

from lightning_seg.module import SegmentationModule

CLASSES = [f"class{index}" for index in range(19)]


def make_module(depth: int, *, channels_last: bool = False) -> SegmentationModule:
    pl.seed_everything(0, verbose=False)
    overrides: dict[str, Any] = {
        "MODEL.RESNETS.DEPTH": depth, "MODEL.RESNETS.NORM": "BN", "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.SEM_SEG_HEAD.NORM": "BN",
    }  # fmt: skip
    if depth < 50:
        overrides["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
    return SegmentationModule(
        "Misc/semantic_R_50_FPN_1x.yaml", CLASSES, weights="", overrides=overrides, channels_last=channels_last
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--depth", type=int, default=50)
    add_output(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    batch = make_batch(arguments.batch, arguments.size, arguments.size)
    reference = make_module(arguments.depth)
    sides = {
        "fp32": (make_module(arguments.depth), "32-true", 0.98),
        "bf16-mixed, channels_last": (make_module(arguments.depth, channels_last=True), "bf16-mixed", 1.6),
    }
    print(f"ResNet-{arguments.depth}-FPN, batch {arguments.batch} of {arguments.size}×{arguments.size}, "
          f"{arguments.threads} threads, median of {arguments.pairs} pairs")  # fmt: skip
    figures = {}
    for name, (module, precision, goal) in sides.items():
        speeds = []
        for pair in range(arguments.pairs):
            runs = [
                lambda module=module, precision=precision: ours(
                    module, batch, arguments.steps, "cpu", batch_size=len(batch), precision=precision
                ),
                lambda: theirs(reference, batch, arguments.steps, "cpu"),
            ]
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            found = {side: runs[side]().images_per_s for side in order}
            speeds.append((found[0], found[1]))
        ratios = [here / there for here, there in speeds]
        figures[name] = statistics.median(ratios)
        here, there = (statistics.median(side) for side in zip(*speeds, strict=True))
        print(
            f"{name:26s} {figures[name]:.2f} times SimpleTrainer in fp32 ({min(ratios):.2f} to "
            f"{max(ratios):.2f}; {here:.2f} and {there:.2f} images/s; goal {goal})"
        )
    write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
