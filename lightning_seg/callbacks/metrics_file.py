"""Writes the figures of the last evaluation to ``metrics.json``, and which weights they belong to."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn

from lightning_seg.callbacks.access import columns_of
from lightning_seg.files import replacing, sha256
from lightning_seg.metrics.slices import slices_of
from lightning_seg.models.weights import read_checkpoint
from lightning_seg.module import SegmentationModule


class MetricsFile(pl.Callback):
    """Writes ``metrics.json`` after every evaluation, also after each validation of a training.

    Its ``weights`` say what was evaluated. ``source`` is ``checkpoint`` (with ``path``, ``global_step``, ``epoch`` and
    ``sha256`` of the file), ``training`` (the weights in memory, with ``global_step`` and ``epoch``) or
    ``model.weights`` (with ``path``, the value of that setting). ``global_step`` is how many optimiser steps have been
    made; epochs count from 0.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.json"
        self._weights: dict[str, Any] = {}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking and isinstance(pl_module, SegmentationModule):
            self._weights = describe_weights(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if isinstance(pl_module, SegmentationModule) and pl_module.report is not None:
            report = pl_module.report
            columns = columns_of(trainer, report.split, report.images)
            slices = {"slices": slices_of(report.images, columns)} if columns else {}
            with replacing(self.path, "w") as file:
                json.dump({**report.as_json(), **slices, "weights": self._weights}, file, indent=1)

    on_test_start = on_validation_start
    on_test_end = on_validation_end


def describe_weights(trainer: pl.Trainer, module: SegmentationModule) -> dict[str, Any]:
    """Describe the weights that an evaluation begins with, as :class:`MetricsFile` writes them.

    The whole checkpoint file is read once for its digest. The digest is null if the file was replaced after it was
    loaded, as ``last.ckpt`` of a running training may be.
    """
    if trainer.state.fn != TrainerFn.FITTING:
        if trainer.ckpt_path is not None:
            path = Path(trainer.ckpt_path).absolute()
            digest = digest_of(path, module.loaded)
            return {"source": "checkpoint", "path": str(path), **module.loaded, "sha256": digest}
        if not trainer.global_step:
            return {"source": "model.weights", "path": module.weights}  # random weights are refused
    return {"source": "training", "global_step": trainer.global_step, "epoch": trainer.current_epoch}


def digest_of(path: Path, loaded: dict[str, int]) -> str | None:
    """The sha256 of a checkpoint file in hexadecimal digits; None, with a warning, if the file was replaced.

    Args:
        path: of the file.
        loaded: ``global_step`` and ``epoch`` of the checkpoint that was loaded from this path.
    """
    try:
        digest = sha256(path)
        found = read_checkpoint(path, f"checkpoint {path}")
    except OSError:
        found = {}
    if any(found.get(name, 0) != value for name, value in loaded.items()):
        rank_zero_warn(f"checkpoint {path} was replaced after it was loaded: metrics.json does not say its digest")
        return None
    return digest
