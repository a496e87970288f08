"""Says at the end of a command where its results are, or what went wrong in terms of the settings."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_seg.errors import ConfigError, DataError, LightningSegError, operation_without_determinism
from lightning_seg.predictions import FORMATS
from lightning_seg.predictions.coco import FILES as JOINED
from lightning_seg.predictions.folder import VIDEOS

RESULTS = {
    "fit": ("config.yaml", "metrics.csv", "metrics.json", "predictions.png", "checkpoints"),
    "validate": ("metrics.json", "images.csv", "images.npz", "predictions.png"),
    "test": ("metrics.json", "images.csv", "images.npz", "predictions.png"),
    "predict": (*FORMATS, VIDEOS, *JOINED),
}
"""What each command may leave in its run folder, or in that of its predictions."""


@rank_zero_only
def say_results(folder: Path, command: str) -> None:
    """Print where the results of a command are, and what draws those of a training."""
    print(f"Results in {folder}:")
    for name in RESULTS[command]:
        if (folder / name).exists():
            print(f"  {folder / name}")
    if command == "fit":
        print(f"Its report: python -m lightning_seg.plot {shlex.quote(str(folder))}")


@rank_zero_only
def refuse_failures(failures: Sequence[str], total: int) -> None:
    """Raise if images could not be predicted.

    Args:
        failures: one line for each of these images; frames of a video may share one.
        total: how many images there are.

    Raises:
        DataError: lists all failures.
    """
    if failures:
        lines = [f"{line} ({count} frames)" if count > 1 else line for line, count in Counter(failures).items()]
        raise DataError(f"{len(failures)} of {total} images could not be predicted:\n  " + "\n  ".join(lines))


def has_begun(trainer: pl.Trainer) -> bool:
    """Whether a batch has been used."""
    fit = trainer.fit_loop.epoch_loop
    evaluations = (fit.val_loop, trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
    return any(loop.batch_progress.total.ready for loop in (fit, *evaluations))


def as_config_error(error: Exception) -> ConfigError | None:
    """Translate an error that a setting causes into one that says what to change; None for any other error."""
    if isinstance(error, MisconfigurationException):
        return ConfigError(first_line(error))
    if operation := operation_without_determinism(error):
        return ConfigError(
            f"trainer.deterministic is true, but {operation} has no deterministic form on this device. If the "
            "head's own loss uses it, give a loss of lightning_seg.losses as model.criterion; else choose "
            "--trainer.deterministic warn, or another network"
        )
    return None


def own_error(error: BaseException | None) -> LightningSegError | None:
    """The error of this project that another comes from, or is: jsonargparse wraps what a chosen class refuses."""
    while error is not None and not isinstance(error, LightningSegError):
        error = error.__cause__
    return error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's name if it has no message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
