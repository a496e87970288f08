"""Callbacks for runs of several processes: what each has trained, one that fails, and a signal to one of them."""

import os
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.distributed.tensor import DTensor

from lightning_seg.errors import DataError

STEPS = 4


class RankFile(pl.Callback):
    """Writes ``step,loss`` of every training batch to ``rank_<n>.csv``; appends where the file is there already.

    ``parts_<n>`` says how many parameters this process has a part of, and of how many numbers its parts and all are.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.step = 0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.folder.mkdir(exist_ok=True)
        parts = [parameter for parameter in module.parameters() if isinstance(parameter, DTensor)]
        held, all_of_them = sum(part.to_local().numel() for part in parts), sum(part.numel() for part in parts)
        (self.folder / f"parts_{trainer.global_rank}").write_text(f"{len(parts)} {held} {all_of_them}")
        loss = float(torch.as_tensor(outputs["loss"]))
        with (self.folder / f"rank_{trainer.global_rank}.csv").open("a") as file:
            file.write(f"{self.step},{loss!r}\n")


class FirstFails(pl.Callback):
    """An error of the first process, while the others are busy for longer than a test may take."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            raise DataError("the disk is gone")
        time.sleep(300)


class SignalIn(pl.Callback):
    """Sends a signal to the process of a rank in a step."""

    def __init__(self, step: int, rank: int = 1, number: str = "SIGUSR1") -> None:
        self.step, self.rank, self.number = step, rank, signal.Signals[number]

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_rank == self.rank and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def losses_of(ranks: Path, devices: int) -> list[float]:
    """Means over the processes, of each step from the first."""
    files = sorted(ranks.glob("rank_*.csv"))
    assert len(files) == devices
    losses: dict[int, float] = defaultdict(float)
    for file in files:
        for line in file.read_text().splitlines():
            step, loss = line.split(",")
            losses[int(step)] += float(loss) / devices  # Lightning has divided it by the accumulation
    return [losses[step] for step in range(STEPS)]


class SamePoints(pl.Callback):
    """Draws the same for each mask and each query, so that draws depend neither on the process nor on the batch."""

    def on_fit_start(self, *_: Any) -> None:
        draw = torch.rand

        def rand(*size: Any, **settings: Any) -> torch.Tensor:
            first, *others = size[0] if isinstance(size[0], torch.Size) else size
            generator = torch.Generator().manual_seed(others[0])
            return draw(1, *others, generator=generator, **settings).expand(first, *others)

        torch.rand = rand


class DiesAtFile(pl.Callback):
    """Kills each process once there are so many files below a folder, wherever it is then."""

    def __init__(self, folder: str, files: int) -> None:
        self.folder, self.files = Path(folder), files

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while sum(path.is_file() for path in self.folder.rglob("*.*")) < self.files:
            time.sleep(0.0002)
        os.kill(os.getpid(), signal.SIGKILL)
