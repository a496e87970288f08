"""Writes what ``predict`` predicts, and leaves out what is done."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from lightning_seg.callbacks.access import image_file, stored_image
from lightning_seg.data.loading.ranks import gather, this_rank
from lightning_seg.predictions import Prediction, refuse_misfits
from lightning_seg.predictions.folder import PredictionFolder
from lightning_seg.structures import Batch, DatasetInfo, Item, Sample


class PredictionFiles(pl.Callback):
    """For every image a file in each format, at its stored size; :data:`~lightning_seg.predictions.FORMATS`.

    Without ``predictions``: ``predictions/masks/<name>.png`` and ``predictions/overlays/<name>.jpg`` below ``folder``,
    written anew.

    Args:
        folder: of the run.
        info: class names and palette.
        predictions: where else, in which formats, and what is done already.
    """

    def __init__(self, folder: Path, info: DatasetInfo, predictions: PredictionFolder | None = None) -> None:
        self.predictions = predictions or PredictionFolder(folder / "predictions")
        self.info = info
        self.failures: list[str] = []
        """What no process could predict, and why; once all have ended."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tell the data module what is done; it has listed its samples before."""
        self.predictions.move_to(trainer.strategy.broadcast(self.predictions.path))
        samples = _samples(trainer)
        refuse_misfits(self.predictions.formats, self.info, [sample.name for sample in samples])
        done = self.predictions.begin(samples) if trainer.is_global_zero else set[int]()
        done = trainer.strategy.broadcast(done)
        if done:
            trainer.datamodule.predicted = done  # type: ignore[attr-defined]  # of pl.Trainer
            rank_zero_info(
                f"{len(done)} of {len(samples)} images are predicted in {self.predictions.path} already; "
                "--overwrite would begin anew"
            )

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
                probabilities=partial(_probabilities, trainer, pl_module, sample),
            )
            self.predictions.write(prediction, image_file(trainer, sample), this_rank())

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.predictions.close()
        mine: list[str] = getattr(getattr(trainer, "datamodule", None), "failures", [])
        self.failures = sorted(message for messages in gather(lambda: mine) for message in messages)
        if trainer.is_global_zero:
            self.predictions.end(_samples(trainer), self.info.names)


def _samples(trainer: pl.Trainer) -> list[Sample]:
    """All that is to be predicted; none that is known of a data module of the user's own."""
    dataset = getattr(getattr(trainer, "datamodule", None), "datasets", {}).get("predict")
    return [] if dataset is None else list(dataset.samples)


def _probabilities(trainer: pl.Trainer, module: Any, sample: Item) -> NDArray[np.float32]:
    """Of one image at a time: all classes at full size take K times four bytes a pixel."""
    with trainer.precision_plugin.predict_step_context():
        [found] = module.probabilities([sample])
    return np.asarray(found.cpu().numpy())
