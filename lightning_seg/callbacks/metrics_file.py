"""Writes the figures of every evaluation to ``metrics.json``."""

import json
from pathlib import Path

import pytorch_lightning as pl

from lightning_seg.files import replacing
from lightning_seg.module import SegmentationModule


class MetricsFile(pl.Callback):
    """Keeps ``metrics.json`` at the figures of the last evaluation, validation during fit included.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.json"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if isinstance(pl_module, SegmentationModule) and pl_module.report is not None:
            with replacing(self.path, "w") as file:
                json.dump(pl_module.report.as_json(), file, indent=1)

    on_test_end = on_validation_end
