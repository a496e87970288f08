"""Runs the command ``fit`` from Python, in this process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_seg.arguments import UsageError
from lightning_seg.checkpoints.runs import choose_checkpoint
from lightning_seg.cli import SegmentationCLI
from lightning_seg.errors import ConfigError
from lightning_seg.metrics import Report
from lightning_seg.running.silence import silence_lightning


@dataclass(frozen=True)
class Run:
    """The results of a training.

    Attributes:
        path: the run folder.
        checkpoint: the best one, as ``--ckpt_path best`` chooses, else the last one, or None if none was written.
        report: the figures of the last validation, or None without validation data.
    """

    path: Path
    checkpoint: Path | None
    report: Report | None


def fit(config: str | Path | Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> Run:
    """Train as ``python train.py fit --config CONFIG --KEY VALUE`` does, with its callbacks and its run folder.

    Args:
        config: a YAML file, or several; later ones win.
        overrides: options by their names on the command line, such as ``{"trainer.max_epochs": 3}``. Values are those
            of YAML: numbers, strings, lists, mappings, True, False and None.

    Raises:
        LightningSegError: a mistake in the settings or the data, with the message of the command.
    """
    files = [config] if isinstance(config, str | Path) else list(config)
    options = [f"--config={file}" for file in files]
    options += [f"--{name}={_as_option(value)}" for name, value in (overrides or {}).items()]
    silence_lightning()
    try:
        command = SegmentationCLI(["fit", *options])
    except UsageError as error:
        raise ConfigError(error.problem) from None
    found = (choose_checkpoint(command.run.checkpoints, which) for which in ("best", "last"))
    return Run(command.run.path, next(filter(None, found), None), command.model.report)


def _as_option(value: Any) -> str:
    """A value as a command line has it: text unchanged, anything else in JSON, which YAML reads."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
