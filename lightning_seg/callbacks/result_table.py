"""Prints the figures of an evaluation as a table, the worst classes first."""

import math

import pytorch_lightning as pl
from rich import get_console
from rich.markup import escape
from rich.table import Table

from lightning_seg.metrics import Report
from lightning_seg.module import SegmentationModule

_MOST_CLASSES = 50
"""How many classes the table shows at most; ``metrics.json`` has all."""


class ResultTable(pl.Callback):
    """Prints one row for each class and one for the split when ``validate`` or ``test`` ends, on the main process."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" or not trainer.is_global_zero:
            return
        if isinstance(pl_module, SegmentationModule) and pl_module.report is not None:
            get_console().print(result_table(pl_module.report))

    on_test_end = on_validation_end


def result_table(report: Report) -> Table:
    """A table of every class's figures in percent, the lowest IoU first; classes without an IoU come last."""
    per_class, averages = report.per_class, report.averages
    pixels = dict(zip(report.class_names, report.matrix.sum(1).tolist(), strict=True))
    table = Table(title=f"{report.split}: {len(report.images)} images, figures in %", show_footer=True)
    table.add_column("class", "all")
    for figure in per_class:
        table.add_column(figure, _percent(averages[f"m{figure}"]), justify="right")
    table.add_column("pixels", str(int(report.matrix.sum())), justify="right")
    iou = per_class["IoU"]
    ranked = sorted(iou, key=lambda name: (math.isnan(iou[name]), iou[name]))
    for name in ranked[:_MOST_CLASSES]:
        table.add_row(escape(name), *(_percent(values[name]) for values in per_class.values()), str(pixels[name]))
    others = (name for name in averages if name.removeprefix("m") not in per_class)
    table.caption = ", ".join(f"{name} {_percent(averages[name])}" for name in others)
    if report.over_classes:
        table.caption = f"mIoU {_percent(averages['mIoU'])}{report.over_classes}; {table.caption}"
    if report.error_budget is not None and report.error_budget.in_words:
        table.caption += f"\nof mIoU, {escape(report.error_budget.in_words)}"
    if len(ranked) > _MOST_CLASSES:
        table.caption += f"; {len(ranked) - _MOST_CLASSES} better or absent classes are in metrics.json"
    return table


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f}"
