"""Writes the label maps of ``predict`` as indexed PNGs and overlays."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.callbacks.access import stored_image
from lightning_seg.data.loading.ranks import gather
from lightning_seg.predictions import Prediction, save
from lightning_seg.structures import Batch, DatasetInfo, Item


class PredictionFiles(pl.Callback):
    """For every image ``predictions/masks/<name>.png`` and ``predictions/overlays/<name>.jpg``, at its stored size.

    The stored values of a mask are class ids; up to 256 classes make an indexed PNG with the palette, more a
    16-bit one.

    Args:
        folder: of the run.
        info: class names and palette.
    """

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self.folder = folder / "predictions"
        self.info = info
        self.failures: list[str] = []
        """What no process could predict, and why; once all have ended."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: list[Tensor],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for sample, labels in zip(batch, outputs, strict=True):
            prediction = Prediction(
                sample["name"],
                labels.cpu().numpy(),
                self.info,
                image=partial(stored_image, trainer, sample, labels.shape),
                probabilities=partial(_probabilities, pl_module, sample),
            )
            save(prediction, self.folder)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        mine: list[str] = getattr(getattr(trainer, "datamodule", None), "failures", [])
        self.failures = sorted(message for messages in gather(lambda: mine) for message in messages)


def _probabilities(module: Any, sample: Item) -> NDArray[np.float32]:
    [found] = module.probabilities([sample])
    return np.asarray(found.cpu().numpy())
