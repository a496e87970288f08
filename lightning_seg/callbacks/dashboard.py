"""Logs tables and charts to W&B: IoU of each class, which classes are confused, and what the data holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from lightning_seg.callbacks.access import data_of, wandb_loggers
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.surveying.samples import count_classes, draw_samples
from lightning_seg.errors import Forgiving
from lightning_seg.lightning_internals import logged_step
from lightning_seg.metrics import Report
from lightning_seg.module import SegmentationModule

_SURVEYED = 64
"""How many masks the class histogram counts."""

_MOST_CELLS = 2500
"""How many cells of the confusion matrix are logged, the largest first: all of them for up to 50 classes."""


class Dashboard(pl.Callback):
    """Logs to W&B, on the main process:

    * ``val/IoU_bars``: IoU of each class in the last evaluation, as a bar chart (``test/…`` likewise);
    * ``val/errors``: the mIoU that each kind of error and the costliest confusions take, as a bar chart;
    * ``val/IoU_by_epoch`` (``fit``): a table with one row for each validation, to which a resumed run adds rows;
    * ``val/confusion_matrix``: the share of each true class's pixels that is predicted as each class;
    * ``data/classes``: pixels of each class in some training masks, and ``dataset`` in the run's configuration.
    """

    def __init__(self) -> None:
        self._rows: list[list[float | None]] = []
        self._forgiving = Forgiving("drawing W&B charts")

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = [list(row) for row in state_dict["rows"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in wandb_loggers(trainer) if trainer.global_step == 0 else ():
            with self._forgiving:
                _log_dataset(logger, data_of(trainer), trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationModule) or pl_module.report is None:
            return
        report = pl_module.report
        if trainer.state.fn == "fit":
            figures = [None if np.isnan(value) else value for value in report.per_class["IoU"].values()]
            self._rows.append([trainer.current_epoch, logged_step(trainer), *figures])
        for logger in wandb_loggers(trainer):
            with self._forgiving:
                charts = _charts(report)
                if trainer.state.fn == "fit":  # in an evaluation, the checkpoint has brought the rows of its training
                    charts["val/IoU_by_epoch"] = self._by_epoch(report.class_names)
                logger.log_metrics(charts, logged_step(trainer))

    def _by_epoch(self, class_names: Sequence[str]) -> Any:
        import wandb

        return wandb.Table(columns=["epoch", "step", *class_names], data=self._rows)


def _charts(report: Report) -> dict[str, Any]:
    import wandb

    split = report.split
    bars = wandb.Table(columns=["class", "IoU"], data=[[name, value] for name, value in _figures(report)])
    title = f"IoU of each class ({split})" + (f", mean{report.over_classes}" if report.over_classes else "")
    cells = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=_cells(report))
    charts = {
        f"{split}/IoU_bars": wandb.plot.bar(bars, "class", "IoU", title=title),
        f"{split}/confusion_matrix": wandb.plot_table(
            "wandb/confusion_matrix/v1",
            cells,
            {name: name for name in ("Actual", "Predicted", "nPredictions")},
            {"title": f"Share of each true class's pixels ({split})"},
        ),
    }
    if report.error_budget is not None:
        costs = wandb.Table(columns=["error", "mIoU"], data=[[*cost] for cost in report.error_budget.costs])
        charts[f"{split}/errors"] = wandb.plot.bar(costs, "error", "mIoU", title=f"mIoU that errors take ({split})")
    return charts


def _figures(report: Report) -> list[tuple[str, float]]:
    return [(name, value) for name, value in report.per_class["IoU"].items() if not np.isnan(value)]


def _cells(report: Report) -> list[list[Any]]:
    """True class, predicted class and share of the true class's pixels, for the largest shares, in order of id."""
    counts = report.matrix.numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    largest = np.sort(np.argsort(-shares, axis=None, kind="stable")[:_MOST_CELLS])
    rows, columns = np.unravel_index(largest, shares.shape)
    names = report.class_names
    return [[names[t], names[p], float(shares[t, p])] for t, p in zip(rows, columns, strict=True)]


def _log_dataset(logger: WandbLogger, data: SegmentationDataModule, step: int) -> None:
    """Counts of samples, and the class histogram of some training masks."""
    import wandb

    train = data.datasets["train"]
    counts = count_classes(train, draw_samples(len(train), _SURVEYED, data.seed))
    pixels, images = counts.sum(0), (counts > 0).sum(0)
    share = pixels / max(1, pixels.sum())
    rows = [[name, float(part), int(number)] for name, part, number in zip(data.info.names, share, images, strict=True)]
    card = {
        "samples": {part: len(dataset) for part, dataset in data.datasets.items()},
        "classes": list(data.info.names),
        "ignore_index": data.info.ignore_index,
        "surveyed_masks": len(counts),
    }
    logger.experiment.config.update({"dataset": card}, allow_val_change=True)
    table = wandb.Table(columns=["class", "share of pixels", "images"], data=rows)
    chart: Any = wandb.plot.bar(table, "class", "share of pixels", title="Classes in the training masks")
    logger.log_metrics({"data/classes": chart}, step)
