"""Ties loggers to a run folder: a resumed run keeps its identity, nothing prompts, and no failure ends a training."""

from lightning_seg.loggers.guard import guarded, usable
from lightning_seg.loggers.wandb_checkpoint import downloaded
from lightning_seg.loggers.wandb_run import RUN_ID_FILE, keep_run_id, prepared, without_missing

__all__ = [
    "RUN_ID_FILE",
    "downloaded",
    "guarded",
    "keep_run_id",
    "prepared",
    "usable",
    "without_missing",
]
