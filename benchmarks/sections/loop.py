"""What both sides of a comparison of steps share: a batch, a clock, silence. It imports nothing of this project."""

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from sections.table import synchronise

Batch = list[dict[str, Any]]

WARM_UP = 3
COMPARED = 2
"""Steps whose losses must agree before a time counts; under AMP one: Detectron2's scale of gradients, 65536 at first,
may skip some updates."""


def make_batch(size: int, height: int, width: int, classes: int = 19) -> Batch:
    """Noise, in blocks that a network can tell apart no better than noise."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
            "sem_seg": torch.randint(0, classes, (height, width), generator=generator).to(torch.uint8),
            "name": str(index), "height": height, "width": width,
        }
        for index in range(size)
    ]  # fmt: skip


class Clock(pl.Callback):
    """Seconds from the end of the warm-up to the end of the last step, and the losses of the first ones."""

    def __init__(self, device: str, warm_up: int) -> None:
        self.device, self.warm_up = device, warm_up
        self.start = self.seconds = 0.0
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        if len(self.losses) < COMPARED:
            self.losses.append(outputs["loss"].detach().clone())
        if trainer.global_step == self.warm_up:
            synchronise(self.device)
            self.start = time.perf_counter()
        elif trainer.global_step == trainer.max_steps:
            synchronise(self.device)
            self.seconds = time.perf_counter() - self.start


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's messages, bars and warnings."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
