"""Writes the label maps of ``predict`` as indexed PNGs and overlays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_seg.callbacks.access import stored_image
from lightning_seg.callbacks.drawing import overlay
from lightning_seg.data.loading.ranks import gather
from lightning_seg.files import inside
from lightning_seg.structures import Batch, DatasetInfo


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
        for sample, prediction in zip(batch, outputs, strict=True):
            labels = prediction.cpu().numpy()
            save_labels(labels, self.info, inside(self.folder / "masks", sample["name"] + ".png"))
            picture = overlay(stored_image(trainer, sample, labels.shape), labels, self.info)
            Image.fromarray(picture).save(inside(self.folder / "overlays", sample["name"] + ".jpg"), quality=90)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        mine: list[str] = getattr(getattr(trainer, "datamodule", None), "failures", [])
        self.failures = sorted(message for messages in gather(lambda: mine) for message in messages)


def save_labels(labels: NDArray[Any], info: DatasetInfo, path: Path) -> None:
    """Write (H, W) class ids as a PNG: indexed with the palette up to 256 classes, 16-bit above."""
    if info.num_classes > 256:
        Image.fromarray(labels.astype(np.uint16)).save(path)
        return
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([value for colour in info.palette for value in colour])
    image.save(path)
