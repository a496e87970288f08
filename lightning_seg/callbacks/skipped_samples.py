"""Logs how many training samples could not be read."""

from typing import Any

import pytorch_lightning as pl
import torch

from lightning_seg.structures import Batch


class SkippedSamples(pl.Callback):
    """Logs ``data/skipped``: how many unreadable samples another one has replaced so far, in all processes.

    With several processes, each batch costs a reduction of one integer.
    """

    def __init__(self) -> None:
        self._skipped = 0

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self._skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._skipped = state_dict["skipped"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        skipped = sum(len(sample.get("unreadable", ())) for sample in batch)
        if trainer.world_size > 1:
            here = torch.tensor(skipped, device=trainer.strategy.root_device)
            skipped = int(trainer.strategy.reduce(here, reduce_op="sum"))
        self._skipped += skipped
        pl_module.log("data/skipped", torch.tensor(float(self._skipped)), batch_size=len(batch))
