"""A training step here and in Detectron2's trainers: the same network, weights, batch and optimiser on both sides."""

import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_seg.callbacks import BadBatch, LastCheckpoint, ProgressBar, ReseedSteps, Throughput, Vitals
from lightning_seg.module import SegmentationModule
from sections.loop import COMPARED, WARM_UP, Batch, Clock, quiet
from sections.table import synchronise


@dataclass(frozen=True)
class Measured:
    """Images per second, the losses of the first steps, and the peak of a GPU's memory in GiB."""

    images_per_s: float
    losses: tuple[float, ...]
    memory: float | None


def ours(
    module: SegmentationModule,
    data: Batch | pl.LightningDataModule,
    steps: int,
    device: str,
    *,
    batch_size: int,
    warm_up: int = WARM_UP,
    **settings: Any,
) -> Measured:
    """A fit as the command line makes it, with its metrics table and what watches its steps."""
    clock = Clock(device, warm_up)
    watching = [ProgressBar(), ReseedSteps(0), BadBatch(), Throughput(), Vitals(), clock, LastCheckpoint()]
    _forget(device)
    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_steps=warm_up + steps,
            logger=CSVLogger(folder), callbacks=watching, default_root_dir=folder, enable_model_summary=False,
            limit_val_batches=0, **settings,
        )  # fmt: skip
        if isinstance(data, pl.LightningDataModule):
            trainer.fit(module, datamodule=data)
        else:
            trainer.fit(module, DataLoader(_Repeated(data, warm_up + steps), batch_size=None, collate_fn=list))
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return Measured(steps * batch_size / clock.seconds, tuple(float(loss) for loss in clock.losses), memory)


def theirs(
    module: SegmentationModule, batch: Batch, steps: int, device: str, *, amp: bool = False, warm_up: int = WARM_UP
) -> Measured:
    """Detectron2's trainer with the network and optimiser of the same recipe; AMP in float16, its default."""
    from detectron2.engine import AMPTrainer, SimpleTrainer
    from detectron2.utils.events import EventStorage

    network = module.segmentor.network.to(device).train()
    bgr = module.recipe.bgr
    batch = [
        {**sample, "image": sample["image"].flip(0) if bgr else sample["image"], "sem_seg": sample["sem_seg"].long()}
        for sample in batch
    ]
    kind = AMPTrainer if amp else SimpleTrainer
    torch.backends.cudnn.benchmark = False  # as Detectron2's defaults have it
    _forget(device)
    losses = []
    trainer = kind(network, [batch] * (warm_up + steps), module.recipe.build_optimizer(network))
    with EventStorage() as storage:
        for step in range(warm_up + steps):
            if step == warm_up:
                synchronise(device)
                start = time.perf_counter()
            trainer.iter = storage.iter = step
            trainer.run_step()
            if step < COMPARED:
                losses.append(float(storage.history("total_loss").latest()))
        synchronise(device)
        taken = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return Measured(steps * len(batch) / taken, tuple(losses), memory)


def disagreement(found: Measured, expected: Measured, *, amp: bool) -> str:
    """Says how the losses of the first steps differ, or nothing."""
    tolerance = 0.1 if amp else 0.02
    pairs = list(zip(found.losses, expected.losses, strict=True))[: 1 if amp else COMPARED]
    if all(abs(one - other) <= tolerance * abs(other) for one, other in pairs):
        return ""
    return "losses of the first steps differ: " + ", ".join(f"{one:.4f} and {other:.4f}" for one, other in pairs)


def _forget(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class _Repeated(torch.utils.data.IterableDataset[Batch]):
    """The same batch, in pinned memory where there is a GPU, as a loader gives it."""

    def __init__(self, batch: Batch, times: int) -> None:
        self.times = times
        self.batch = [
            {
                name: value.pin_memory() if isinstance(value, Tensor) and torch.cuda.is_available() else value
                for name, value in sample.items()
            }
            for sample in batch
        ]

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * self.times)

    def __len__(self) -> int:
        return self.times
