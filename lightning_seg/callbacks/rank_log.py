"""Leaves the console to the main process: the output of every other process goes to a file of its own."""

import os
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TextIO

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn


class RankLog(pl.Callback):
    """Sends the output of all processes but the first to ``logs/rank_<n>.log``, also that of libraries below Python.

    The file is in the run's folder; a resumed run adds to it. An error that ends such a process is in its file, with
    its stack trace, and on the console. The first process prints to the console as usual.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._console: tuple[int, int] = (1, 2)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        folder = Path(trainer.strategy.broadcast(trainer.default_root_dir)) / "logs"
        if trainer.is_global_zero or self._file is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"rank_{trainer.global_rank}.log").open("a", buffering=1, encoding="utf-8")
        _flush()
        self._console = os.dup(1), os.dup(2)
        for descriptor in (1, 2):
            os.dup2(self._file.fileno(), descriptor)
        print(
            f"{time.strftime('%Y-%m-%d %H:%M:%S')} rank {trainer.global_rank} of {trainer.world_size}: "
            f"{TrainerFn(stage).value} on {socket.gethostname()}, "
            f"process {os.getpid()}, {trainer.strategy.root_device}",
            file=self._file,
        )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._file is not None:
            traceback.print_exception(exception, file=self._file)
        self._give_back()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if self._file is None:
            return
        _flush()
        for descriptor, saved in zip((1, 2), self._console, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        self._file.close()
        self._file = None


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
