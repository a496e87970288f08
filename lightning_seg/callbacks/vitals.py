"""Logs whether a training is healthy: gradient norm, waiting for data, GPU memory."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lightning_seg.lightning_internals import logs_step
from lightning_seg.structures import Batch


class Vitals(pl.Callback):
    """Logs figures of the main process every ``trainer.log_every_n_steps`` optimiser steps:

    * ``train/grad_norm``: 2-norm of all gradients, before clipping;
    * ``perf/data_wait``: which share of the time passed between the end of a step and the beginning of the next one,
      without validations. A GPU's steps are launched and not awaited, so watch whether the share grows;
    * ``perf/gpu_memory_gib``: the most memory that tensors have taken on a CUDA device.
    """

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._since = self._step_ended = time.perf_counter()
        self._waited = self._validated = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated -= time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated += time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._waited += time.perf_counter() - self._step_ended

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if logs_step(trainer, trainer.global_step + 1):
            gradients = [
                _wide(parameter.grad)
                for group in optimizer.param_groups
                for parameter in group["params"]
                if parameter.grad is not None
            ]
            norm = torch.nn.utils.get_total_norm(gradients)
            pl_module.log("train/grad_norm", norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step and logs_step(trainer, trainer.global_step):
            passed = time.perf_counter() - self._since - self._validated
            pl_module.log("perf/data_wait", (self._waited - self._validated) / passed)
            device = pl_module.device
            if device.type == "cuda":
                pl_module.log("perf/gpu_memory_gib", torch.cuda.max_memory_allocated(device) / 2**30)
            self._restart()
        self._step_ended = time.perf_counter()


def _wide(gradient: Tensor) -> Tensor:
    """A gradient; in half precision its norm in float32, since its squares would be summed in half precision."""
    half = gradient.dtype in (torch.float16, torch.bfloat16)
    return torch.linalg.vector_norm(gradient, dtype=torch.float32) if half else gradient
