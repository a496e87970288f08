"""Writes what ``predict`` predicts, and leaves out what is done."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from lightning_seg.callbacks.access import stored_image
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.loading.ranks import gather, this_rank
from lightning_seg.errors import DataError
from lightning_seg.inference import Bands
from lightning_seg.machine import memory_of
from lightning_seg.predictions import Prediction, refuse_misfits
from lightning_seg.predictions.folder import PredictionFolder
from lightning_seg.predictions.rasters import RasterRules
from lightning_seg.structures import Batch, DatasetInfo, Item, Sample

if TYPE_CHECKING:  # of an extra
    from lightning_seg.geo.windows import WindowedImage

_TELL_EVERY = 60.0
"""Seconds between two words on an image that takes long."""


class PredictionFiles(pl.Callback):
    """For every image a file in each format, at its stored size; :data:`~lightning_seg.predictions.FORMATS`.

    Of an image that is read by windows, and of a GeoTIFF, see :mod:`lightning_seg.predictions.rasters`.

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
        self.rasters = RasterRules()
        self.failures: list[str] = []
        """What no process could predict, and why; once all have ended."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tell the data module what is done; it has listed its samples before."""
        self.predictions.move_to(trainer.strategy.broadcast(self.predictions.path))
        samples = _samples(trainer)
        self._choose_windows(trainer, pl_module)
        refuse_misfits(self.predictions.formats, self.info, [sample.name for sample in samples])
        done = self.predictions.begin(samples) if trainer.is_global_zero else set[int]()
        done = trainer.strategy.broadcast(done)
        if done:
            trainer.datamodule.predicted = done  # type: ignore[attr-defined]  # of pl.Trainer
            rank_zero_info(
                f"{len(done)} of {len(samples)} images are predicted in {self.predictions.path} already; "
                "--overwrite would begin anew"
            )

    def _choose_windows(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Let the data set open what is to be read by windows, and refuse what does not fit into memory."""
        data, inference = getattr(trainer, "datamodule", None), getattr(module, "inference", None)
        if isinstance(data, SegmentationDataModule) and inference is not None:
            by_windows = inference.by_windows and not data.eval_transforms
            memory = None if inference.by_windows else memory_of(trainer.strategy.root_device)
            self.rasters = RasterRules(data.rules, by_windows, memory)
            if (dataset := data.datasets.get("predict")) is not None:
                dataset.open_image = self.rasters

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: list[Any],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for sample, found in zip(batch, outputs, strict=True):
            file = Path(sample["file_name"]) if "file_name" in sample else None
            if isinstance(found, Tensor):
                prediction = Prediction(
                    sample["name"],
                    found.cpu().numpy(),
                    self.info,
                    image=partial(stored_image, trainer, sample, found.shape),
                    probabilities=partial(_probabilities, trainer, pl_module, sample),
                )
                self.predictions.write(
                    prediction, file, this_rank(), None if file is None else self.rasters.place(file)
                )
                continue
            image = cast("WindowedImage", sample["image"])
            try:
                bands = partial(_bands, trainer, image, found)
                self.predictions.write_by_windows(sample["name"], image, bands, self.info, this_rank())
            except DataError as error:  # as of an image that cannot be read
                trainer.datamodule.failures.append(str(error))  # type: ignore[attr-defined]  # of pl.Trainer
            finally:
                image.close()

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


def _bands(trainer: pl.Trainer, image: "WindowedImage", found: Callable[[int], Bands], start: int) -> Bands:
    """Each band as :meth:`SegmentationModule.predict_step` would predict it: with the precision of the trainer."""
    height, _ = image.size
    if start > 0:
        rank_zero_info(f"{image.path}: goes on at row {start} of {height}")
    bands, told = found(start), time.monotonic()
    while True:
        with trainer.precision_plugin.predict_step_context():
            band = next(bands, None)
        if band is None:
            return
        if time.monotonic() - told > _TELL_EVERY:
            rank_zero_info(f"{image.path}: {band[0]} of {height} rows")
            told = time.monotonic()
        yield band


def _probabilities(trainer: pl.Trainer, module: Any, sample: Item) -> NDArray[np.float32]:
    """Of one image at a time: all classes at full size take K times four bytes a pixel."""
    with trainer.precision_plugin.predict_step_context():
        [found] = module.probabilities([sample])
    return np.asarray(found.cpu().numpy())
