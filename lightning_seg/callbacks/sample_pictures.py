"""Logs pictures of the same samples after every validation, and of the first training batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from lightning_seg.callbacks.access import data_of, shown_input, stored_image
from lightning_seg.callbacks.drawing import reduce, reduce_labels
from lightning_seg.callbacks.showing import Shown, log_evaluation, log_training
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.surveying.samples import count_classes, cover_classes, draw_samples
from lightning_seg.errors import ConfigError, Forgiving
from lightning_seg.lightning_internals import logged_step
from lightning_seg.loggers import usable
from lightning_seg.metrics.functional import confusion_matrix, mean_iou, pixel_accuracy
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch, Item, summarise

_CANDIDATES = 48
"""How many masks are read to choose samples that show every class."""


class SamplePictures(pl.Callback):
    """Logs pictures to W&B, with masks to switch on and off, and to TensorBoard, as overlays.

    * ``val/pictures`` (``test/…`` likewise): the same samples at every validation, the worst first;
    * ``val/samples``: the same samples in a table with the figures of each image;
    * ``train/pictures``: the first samples of a training as the network sees them, augmented.

    The predictions are those that the evaluation counts. Each process keeps those of its chosen samples, and the main
    process gathers them when the validation is over.

    Args:
        count: how many samples to choose. The data's seed decides which; they show as many classes as possible.
        ids: names of samples of ``data.val`` to show instead, as ``predictions.png`` has them (``folder/stem``).
            ``test`` shows those that ``data.test`` has too; if it has none, ``test`` chooses ``count`` samples.
        longest_side: of a picture, in pixels; larger pictures are reduced.

    Raises:
        ConfigError: before anything is trained or evaluated, if ``data.val`` lacks one of ``ids``.
    """

    def __init__(self, count: int = 8, ids: list[str] | None = None, longest_side: int = 512) -> None:
        self.count = count
        self.ids = ids
        self.longest_side = longest_side
        self._named: frozenset[str] = frozenset()
        self._chosen: dict[str, frozenset[str]] = {}
        self._shown: list[Shown] = []
        self._seen_in_training: Batch | None = None
        self._forgiving = Forgiving("drawing sample pictures")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look for ``ids`` on every process; if one process stopped alone, the others would wait for it."""
        split = "test" if stage == "test" else "val"
        dataset = data_of(trainer).datasets.get(split)
        if self.ids is None or dataset is None:
            return
        self._named = frozenset(self.ids) & {sample.name for sample in dataset.samples}
        if split == "val" and (unknown := set(self.ids) - self._named):
            raise ConfigError(
                f"SamplePictures(ids): data.val has no sample {summarise(sorted(unknown))}: give names as "
                "predictions.png shows them"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        new = trainer.global_step == 0 and trainer.is_global_zero and bool(_open_targets(trainer))
        self._seen_in_training = [] if new else None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self._seen_in_training is None:
            return
        with self._forgiving:
            self._seen_in_training += batch[: self.count - len(self._seen_in_training)]
            if len(self._seen_in_training) >= self.count or trainer.is_last_batch:
                self._log_training(trainer, self._seen_in_training)
                self._seen_in_training = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(trainer, "val", trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(trainer, "test", trainer.num_test_batches)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(trainer, "val", outputs["predictions"], batch)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(trainer, "test", outputs["predictions"], batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, "test")

    def _start(self, trainer: pl.Trainer, split: str, num_batches: Sequence[float]) -> None:
        """Choose the samples on the main process, once, and tell the others."""
        self._shown = []
        if trainer.sanity_checking or not _targets(trainer) or split in self._chosen:
            return
        names = self._named
        if not names and trainer.is_global_zero and _open_targets(trainer):
            data = data_of(trainer)
            visited = int(num_batches[0]) * data.eval_batch_size * trainer.world_size
            with self._forgiving:
                names = self._cover(data, split, visited)
        self._chosen[split] = trainer.strategy.broadcast(names)

    def _cover(self, data: SegmentationDataModule, split: str, visited: int) -> frozenset[str]:
        """Choose names among the first ``visited`` samples of the split; ``limit_val_batches`` leaves out the rest."""
        dataset = data.datasets[split]
        candidates = draw_samples(min(visited, len(dataset)), max(_CANDIDATES, self.count), data.seed)
        counts = count_classes(dataset, candidates)
        return frozenset(dataset.samples[candidates[row]].name for row in cover_classes(counts, self.count))

    def _collect(self, trainer: pl.Trainer, split: str, predictions: list[Tensor], batch: Batch) -> None:
        if trainer.sanity_checking:
            return
        chosen = self._chosen.get(split, frozenset())
        for sample, prediction in zip(batch, predictions, strict=True):
            if sample["name"] in chosen:
                with self._forgiving:
                    self._shown.append(self._show(trainer, sample, prediction))

    def _show(self, trainer: pl.Trainer, sample: Item, prediction: Tensor) -> Shown:
        info, module = data_of(trainer).info, trainer.lightning_module
        assert isinstance(module, SegmentationModule)
        matrix = confusion_matrix(prediction, sample["truth"], info.num_classes, info.ignore_index)
        return Shown(
            sample["name"],
            reduce(stored_image(trainer, sample, sample["truth"].shape), self.longest_side),
            reduce_labels(sample["truth"].cpu().numpy(), self.longest_side),
            reduce_labels(prediction.cpu().numpy(), self.longest_side),
            mean_iou(matrix, module.evaluation.absent_classes).item(),
            pixel_accuracy(matrix).item(),
        )

    def _finish(self, trainer: pl.Trainer, split: str) -> None:
        if trainer.sanity_checking or not self._chosen.get(split):
            return
        shown, self._shown = _gather(trainer, self._shown), []
        if not trainer.is_global_zero or not shown:
            return
        shown.sort(key=lambda each: (np.nan_to_num(each.mean_iou, nan=2.0), each.name))  # the worst first
        info = data_of(trainer).info
        for logger in _open_targets(trainer):
            with self._forgiving:
                log_evaluation(logger, split, shown, info, trainer.current_epoch, logged_step(trainer))

    def _log_training(self, trainer: pl.Trainer, batch: Batch) -> None:
        pairs = {
            sample["name"]: (
                reduce(shown_input(trainer, sample), self.longest_side),
                reduce_labels(sample["sem_seg"].cpu().numpy(), self.longest_side),
            )
            for sample in batch
        }
        for logger in _open_targets(trainer):
            log_training(logger, pairs, data_of(trainer).info, logged_step(trainer))


def _gather(trainer: pl.Trainer, shown: list[Shown]) -> list[Shown]:
    """Gather the samples of all processes on the main process, in one collective call for each evaluation."""
    if trainer.world_size == 1:
        return shown
    parts: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    torch.distributed.gather_object(shown, parts)
    return [each for part in parts or () for each in part]


def _targets(trainer: pl.Trainer) -> list[Logger]:
    """Loggers that take pictures, the same on all processes."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]


def _open_targets(trainer: pl.Trainer) -> list[Logger]:
    """Loggers that take pictures and could be opened; only the main process knows which."""
    return usable(trainer.loggers, WandbLogger, TensorBoardLogger)
