"""The progress bar: rich, with the mIoU as it stands."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich import get_console
from rich.logging import RichHandler

from lightning_seg.metrics.functional import mean_iou
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Batch


class ProgressBar(RichProgressBar):
    """Lightning's rich bar with loss and mIoU; the mIoU follows a running validation image by image.

    A line a validation stays above the bar, also where the output is no terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running_miou: float | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Send Lightning's messages through the bar's console: straight to the terminal they break the bar."""
        super().setup(trainer, pl_module, stage)
        console = get_console()
        logger = logging.getLogger("pytorch_lightning")
        if console.is_terminal and not any(isinstance(handler, RichHandler) for handler in logger.handlers):
            plain = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
            logger.handlers = [plain]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._running_miou is not None:
            metrics["val/mIoU"] = self._running_miou
        elif "val/mIoU" in metrics and (over := _over_classes(pl_module)):
            metrics["val/mIoU"] = f"{metrics['val/mIoU']:.3f}{over}"
        return metrics

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
        if isinstance(pl_module, SegmentationModule):  # of this process alone
            self._running_miou = mean_iou(pl_module.confusion.matrix, pl_module.absent_classes).item()
            self._update_metrics(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._running_miou = None
        super().on_validation_end(trainer, pl_module)
        if self.progress is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.refresh(hard=True)  # the bar has lost a line: a late refresh would take the next one printed with it
        remarks = {"mIoU": _over_classes(pl_module)}
        figures = ((name, trainer.callback_metrics.get(f"val/{name}")) for name in ("mIoU", "mAcc", "pAcc", "loss"))
        listed = "  ".join(
            f"{name} {float(value):.4f}{remarks.get(name, '')}" for name, value in figures if value is not None
        )
        self.progress.console.print(
            f"epoch {trainer.current_epoch:3d}  step {trainer.global_step:6d}  val  {listed}", soft_wrap=True
        )


def _over_classes(module: pl.LightningModule) -> str:
    """Over how many classes the last mIoU is, where those are not all."""
    return module.report.over_classes if isinstance(module, SegmentationModule) and module.report is not None else ""
