"""``validate --calibrate``: fits the temperature of a checkpoint on the validation images, and keeps it there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ActionYesNo
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from lightning_seg.checkpoints.calibrated import keep_temperature
from lightning_seg.checkpoints.lock import LOCK_NAME, claim_folder
from lightning_seg.errors import ConfigError
from lightning_seg.evaluating import EvaluatingModule
from lightning_seg.lightning_internals import is_main_process
from lightning_seg.metrics.temperature import COLDEST, HOTTEST, TemperatureFit

OPTION = "calibrate"
"""Of ``validate``; no other command has it."""


def add_option(parser: LightningArgumentParser) -> None:
    """Add :data:`OPTION`."""
    parser.add_argument(
        f"--{OPTION}",
        action=ActionYesNo,
        nargs="?",
        default=False,
        help="Fit the temperature of the probabilities on data.val, and keep it in the checkpoint of --ckpt_path.",
    )


def prepare(settings: Any) -> None:
    """Refuse what cannot be calibrated, before anything slow begins; keep trainings out of the checkpoint's run.

    Args:
        settings: of a command, with the checkpoint as a file; changed: confidences are counted.

    Raises:
        BusyError: if the run is being trained.
        ConfigError: says what to change.
    """
    if not settings.get(OPTION):
        return
    if settings.ckpt_path is None:
        raise ConfigError("--calibrate keeps the temperature in a checkpoint: give --ckpt_path")
    if settings.trainer.fast_dev_run:
        raise ConfigError("--calibrate needs all images of data.val: leave out trainer.fast_dev_run")
    path = Path(settings.ckpt_path).resolve()
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--calibrate keeps the temperature in {path}, but its folder cannot be written to")
    if is_main_process() and (path.parent.parent / LOCK_NAME).is_file():
        claim_folder(path.parent.parent, otherwise="copy the checkpoint, and calibrate the copy")
    settings.model.calibration = True


def validate(trainer: pl.Trainer, settings: Any, arguments: Mapping[str, Any]) -> None:
    """Validate; where it is asked for, fit a temperature first, and keep it in the checkpoint.

    The images are evaluated twice: before, and as the checkpoint says then, of which all figures are that are written.

    Args:
        trainer: of the command.
        settings: of the command.
        arguments: of ``trainer.validate``.

    Raises:
        CheckpointError: if the checkpoint cannot be written.
        ConfigError: if nothing can be fitted.
    """
    if not settings.get(OPTION):
        trainer.validate(**arguments)
        return
    module = arguments["model"]
    assert isinstance(module, EvaluatingModule)
    fit = module.temperature_fit = TemperatureFit()
    trainer.validate(**arguments)
    module.temperature_fit = None
    before, old, path = fit.before, module.temperature, Path(settings.ckpt_path)
    if before is None or not before.counts.any():
        raise ConfigError(
            "--calibrate found no pixel that counts: give data.val with masks, and a strategy that starts its "
            "processes as scripts, such as ddp"
        )
    if fit.found in (COLDEST, HOTTEST):
        rank_zero_warn(
            f"the temperature is looked for from {COLDEST:g} to {HOTTEST:g}, and a better one lies beyond: see whether "
            "the weights and the classes belong to these images"
        )
    if trainer.is_global_zero:
        keep_temperature(path, fit.found)
    trainer.strategy.barrier()
    trainer.validate(**arguments)
    assert module.report is not None
    assert module.report.calibration is not None
    rank_zero_info(
        f"Temperature {module.temperature:.4f} (before: {old:.4f}), kept in {path}. Expected calibration error of all "
        f"pixels of data.val: {module.report.calibration.error:.4f} (before: {before.error:.4f})"
    )
