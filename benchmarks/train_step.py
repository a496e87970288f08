"""A training step of this project (module and Lightning's loop) against one of Detectron2's ``SimpleTrainer``.

Run: python benchmarks/train_step.py [--pairs 5] [--steps 6] [--threads 1] [--device cpu]
The same network, weights, batch, optimiser and threads on both sides, which take turns; what counts is the median of
the ratios of neighbours. The batch lies in memory: loading has a benchmark of its own. A second table compares
bf16-mixed with channels_last here with fp32 there.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from lightning_seg.callbacks import BadBatch, LastCheckpoint, ProgressBar, ReseedSteps, Throughput, Vitals
from lightning_seg.module import SegmentationModule

CLASSES = [f"class{index}" for index in range(19)]
WARM_UP = 2


def make_batch(size: int, height: int, width: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
            "sem_seg": torch.randint(0, len(CLASSES), (height, width), generator=generator),
            "name": str(index), "height": height, "width": width,
        }
        for index in range(size)
    ]  # fmt: skip


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


class Clock(pl.Callback):
    """Seconds from the end of the warm-up to the end of the last step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            synchronise(self.device)
            self.start = time.perf_counter()
        elif trainer.global_step == trainer.max_steps:
            synchronise(self.device)
            self.seconds = time.perf_counter() - self.start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(
    module: SegmentationModule, batch: list[dict[str, Any]], steps: int, device: torch.device, bf16: bool
) -> float:
    """Images per second of a fit as the command line makes it, with its metrics table and what watches its steps."""
    clock = Clock(device)
    watching = [ProgressBar(), ReseedSteps(0), BadBatch(), Throughput(), Vitals(), clock, LastCheckpoint()]
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator=device.type, devices=1, max_steps=WARM_UP + steps, logger=CSVLogger(folder), callbacks=watching,
            default_root_dir=folder, enable_model_summary=False, precision="bf16-mixed" if bf16 else "32-true",
        )  # fmt: skip
        trainer.fit(module, DataLoader([batch] * (WARM_UP + steps), batch_size=None, collate_fn=list))
    return steps * len(batch) / clock.seconds


def theirs(module: SegmentationModule, batch: list[dict[str, Any]], steps: int, device: torch.device) -> float:
    """Images per second of Detectron2's trainer with the network and optimiser of the same recipe."""
    from detectron2.engine import SimpleTrainer
    from detectron2.utils.events import EventStorage

    network = module.segmentor.network.to(device)
    trainer = SimpleTrainer(network, [batch] * (WARM_UP + steps), module.recipe.build_optimizer(network))
    with EventStorage() as storage:
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                synchronise(device)
                start = time.perf_counter()
            trainer.iter = storage.iter = step
            trainer.run_step()
        synchronise(device)
        return steps * len(batch) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    device = torch.device(arguments.device)
    batch = make_batch(arguments.batch, arguments.size, arguments.size)
    reference = make_module(arguments.depth)
    sides = {
        "fp32": (make_module(arguments.depth), False, 0.98),
        "bf16-mixed, channels_last": (make_module(arguments.depth, channels_last=True), True, 1.6),
    }
    print(f"ResNet-{arguments.depth}-FPN, batch {arguments.batch} of {arguments.size}×{arguments.size}, {device}, "
          f"{arguments.threads} threads, median of {arguments.pairs} pairs")  # fmt: skip
    for name, (module, bf16, goal) in sides.items():
        ratios, speeds = [], []
        for pair in range(arguments.pairs):
            runs = [
                lambda module=module, bf16=bf16: ours(module, batch, arguments.steps, device, bf16),
                lambda: theirs(reference, batch, arguments.steps, device),
            ]
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            found = {side: runs[side]() for side in order}
            ratios.append(found[0] / found[1])
            speeds.append(found)
        here, there = (statistics.median(speed[side] for speed in speeds) for side in (0, 1))
        print(
            f"{name:26s} {statistics.median(ratios):.2f} times SimpleTrainer in fp32 ({min(ratios):.2f} to "
            f"{max(ratios):.2f}; {here:.2f} and {there:.2f} images/s; goal {goal})"
        )


if __name__ == "__main__":
    main()
