"""Answers a loss that is not finite: names the samples, writes a file to look into it, and stops or skips the step."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from lightning_seg.callbacks.access import data_of
from lightning_seg.errors import LossError
from lightning_seg.files import replacing
from lightning_seg.structures import Batch
from lightning_seg.transfers import Later

_FINE, _SKIP, _STOP = 0, 1, 2


class BadBatch(pl.Callback):
    """Writes ``bad_batch/<step>_<rank>.json`` into the run's folder: samples, pixels of each label, random state.

    The random numbers of a step follow from what the file holds under ``random``
    (:func:`lightning_seg.callbacks.reseed.seed_step`); the configuration is the run's ``config.yaml``, which is copied.

    Args:
        skip: how many optimiser steps with such a batch the whole run may leave out. The next one is an error; with 0,
            the first one. A step that is left out counts as a step, but changes no weight.

    Raises:
        LossError: in the step, before its gradients are applied.
    """

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self.skipped = 0
        self._batch: Batch = []
        self._batch_idx = 0
        self._loss: Later | None = None
        self._found = ""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.folder = Path(trainer.strategy.broadcast(trainer.default_root_dir))

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped} if self.skipped else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self._loss = Later(loss)  # it is read after the backward pass is launched, so that no GPU waits

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self._check(trainer)
        if not self.skip:
            return
        verdict = self._verdict(trainer, pl_module)
        if verdict == _STOP:
            found = self._found or "another process met a loss that is not finite"
            raise LossError(
                f"{found}. {self.skipped} steps were left out; this one cannot be, {self._reason(pl_module)}"
            )
        if verdict == _SKIP:
            self.skipped += 1
            rank_zero_warn(f"{self._found or 'Another process met a loss that is not finite'}: step left out")
            optimizer.zero_grad(set_to_none=True)  # an optimiser leaves parameters without a gradient alone
        self._found = ""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._check(trainer)  # this batch's gradients may still add up, without a step

    def _check(self, trainer: pl.Trainer) -> None:
        """Check the loss of the last backward pass, once."""
        if self._loss is None:
            return
        loss, self._loss = self._loss.read(), None
        if torch.isfinite(loss):
            return
        path = self.folder / "bad_batch" / f"{trainer.global_step}_{trainer.global_rank}.json"
        with replacing(path, "w") as file:
            json.dump(self._facts(trainer, loss), file, indent=1)
        config = self.folder / "config.yaml"
        if config.is_file():
            (path.parent / "config.yaml").write_bytes(config.read_bytes())
        names = ", ".join(sample["file_name"] for sample in self._batch)
        self._found = f"the loss of step {trainer.global_step} is {loss.item()}; its samples are {names}; see {path}"
        if not self.skip:
            raise LossError(
                f"{self._found}. A lower learning rate, gradient clipping or --trainer.precision 32 may help; "
                "lightning_seg.callbacks.BadBatch with skip: 10 in trainer.callbacks leaves such steps out"
            )

    def _reason(self, pl_module: pl.LightningModule) -> str:
        if _spoilt(pl_module):
            return "since the model's running statistics are no longer finite: go on from a checkpoint"
        return f"since BadBatch has skip: {self.skip}"

    def _verdict(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> int:
        """What all processes do with this step: what the process with the worst finding must do."""
        verdict = _FINE
        if self._found:
            verdict = _STOP if self.skipped >= self.skip or _spoilt(pl_module) else _SKIP
        if trainer.world_size == 1:
            return verdict
        found = torch.tensor(verdict, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(found, reduce_op="max"))

    def _facts(self, trainer: pl.Trainer, loss: Tensor) -> dict[str, Any]:
        samples = []
        for sample in self._batch:
            values, counts = sample["sem_seg"].unique(return_counts=True)  # type: ignore[no-untyped-call]  # torch's own
            samples.append(
                {
                    "image": sample["file_name"],
                    "mask": sample["sem_seg_file_name"],
                    "pixels": dict(zip(map(str, values.tolist()), counts.tolist(), strict=True)),
                }
            )
        seed = data_of(trainer).seed
        return {
            "loss": str(loss.item()),
            "step": trainer.global_step,
            "random": {
                "seed": seed,
                "epoch": trainer.current_epoch,
                "batch": self._batch_idx,
                "rank": trainer.global_rank,
            },
            "samples": samples,
        }


def _spoilt(pl_module: pl.LightningModule) -> bool:
    """Whether buffers that a forward pass changes, such as running statistics, are no longer finite."""
    return any(not torch.isfinite(buffer).all() for buffer in pl_module.buffers())
