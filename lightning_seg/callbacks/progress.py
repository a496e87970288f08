"""Shows the progress bar, with the loss and the mIoU so far."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from rich import get_console
from rich.logging import RichHandler
from rich.progress import ProgressColumn, Task
from rich.style import Style
from rich.text import Text

from lightning_seg.data import SegmentationDataModule
from lightning_seg.lightning_internals import logged_step
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch
from lightning_seg.transfers import Later

_SECONDS_BETWEEN_FIGURES = 0.5
"""How often a figure of a GPU is read, since each reading may hold it up; a CPU's figures are read at every batch."""


class _Speed(ProgressColumn):
    """What is done in a second: images where a task says so, else batches."""

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.2f} {task.fields.get('unit', 'it')}/s", style=self.style)


class ProgressBar(RichProgressBar):
    """Lightning's rich bar with loss and mIoU; the mIoU follows a running validation image by image.

    One line for each validation stays above the bar, also if the output is no terminal. The bar reads the loss itself:
    to show a logged loss, Lightning waits for the GPU after every step. ``predict`` counts the images of all processes
    as if each had done as many as this one.
    """

    reads_loss = True
    """Tells :class:`~lightning_seg.module.SegmentationModule` not to log the loss to this bar."""

    def __init__(self) -> None:
        super().__init__()
        self._running_miou: float | None = None
        self._loss: float | None = None
        self._coming_loss: Later | None = None
        self._looked_at = 0.0
        self._images_left: int | None = None
        self._images = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Send Lightning's messages through the bar's console; written straight to the terminal, they break the bar."""
        super().setup(trainer, pl_module, stage)
        console = get_console()
        logger = logging.getLogger("pytorch_lightning")
        if console.is_terminal and not any(isinstance(handler, RichHandler) for handler in logger.handlers):
            plain = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
            logger.handlers = [plain]

    @property
    def total_train_batches(self) -> int | float:
        """How many batches of the epoch ``max_steps`` leaves. Lightning's bar mistakes steps for batches."""
        trainer = self.trainer
        batches = trainer.num_training_batches
        if trainer.max_steps == -1:
            return batches
        ready, factor = trainer.fit_loop.epoch_loop.batch_progress.current.ready, trainer.accumulate_grad_batches
        done = 0 if ready >= batches else ready  # not 0 if the run goes on inside an epoch
        return min(batches, (done // factor + trainer.max_steps - trainer.global_step) * factor)

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        return [*super().configure_columns(trainer)[:-1], _Speed(self.theme.processing_speed)]

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        data = getattr(trainer, "datamodule", None)
        if (
            self.progress is None
            or self.predict_progress_bar_id is None
            or not isinstance(data, SegmentationDataModule)
        ):
            return
        if batch_idx == 0:
            self._images_left = len(data.datasets["predict"]) - len(data.predicted)
            self.progress.update(self.predict_progress_bar_id, total=self._images_left, unit="images")

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._images_left is None or self.progress is None or self.predict_progress_bar_id is None:
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
            return
        self._images += len(batch) * trainer.world_size
        last = batch_idx + 1 == self.total_predict_batches_current_dataloader
        done = self._images_left if last else min(self._images, self._images_left)
        self.progress.update(self.predict_progress_bar_id, completed=done)
        self.refresh()

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_epochs != -1:
            return super()._get_train_description(current_epoch)
        return f"Epoch {current_epoch}".ljust(len(self.validation_description))

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._loss is not None:
            metrics["train/loss"] = self._loss
        if self._running_miou is not None:
            metrics["val/mIoU"] = self._running_miou
        elif "val/mIoU" in metrics and (over := _over_classes(pl_module)):
            metrics["val/mIoU"] = f"{metrics['val/mIoU']:.3f}{over}"
        return metrics

    def _may_look(self, device: torch.device) -> bool:
        """Whether a figure of this device may be read now."""
        now = time.monotonic()
        if device.type != "cpu" and now - self._looked_at < _SECONDS_BETWEEN_FIGURES:
            return False
        self._looked_at = now
        return True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else None
        if loss is not None and self.is_enabled and self._may_look(loss.device):
            before, self._coming_loss = self._coming_loss, Later(loss)
            # A GPU's value that was asked for half a second ago has arrived; a CPU's is there at once.
            arrived = self._coming_loss if loss.device.type == "cpu" else before
            self._loss = None if arrived is None else arrived.read().item()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if self.is_disabled or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if isinstance(pl_module, SegmentationModule) and self._may_look(pl_module.device):  # this process's images only
            self._running_miou = pl_module.evaluation.running_mean_iou()
            self._update_metrics(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._running_miou = None
        super().on_validation_end(trainer, pl_module)
        if self.progress is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.refresh(hard=True)  # the bar has lost a line: a later refresh would erase the line printed next
        remarks = {"mIoU": _over_classes(pl_module)}
        figures = ((name, trainer.callback_metrics.get(f"val/{name}")) for name in ("mIoU", "mAcc", "pAcc", "loss"))
        listed = "  ".join(
            f"{name} {float(value):.4f}{remarks.get(name, '')}" for name, value in figures if value is not None
        )
        self.progress.console.print(
            f"epoch {trainer.current_epoch:3d}  step {logged_step(trainer):6d}  val  {listed}", soft_wrap=True
        )


def _over_classes(module: pl.LightningModule) -> str:
    """Over how many classes the last mIoU is; empty if it is over all."""
    return module.report.over_classes if isinstance(module, SegmentationModule) and module.report is not None else ""
