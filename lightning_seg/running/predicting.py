"""What ``predict`` is asked for beside its images, and the folder that it writes to or goes on in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import ActionYesNo
from pytorch_lightning.cli import LightningArgumentParser

from lightning_seg.checkpoints.choosing import RunChoice
from lightning_seg.checkpoints.lock import claim_folder
from lightning_seg.checkpoints.resuming import flatten
from lightning_seg.checkpoints.runs import RunFolder, newest_run
from lightning_seg.config_paths import expanded
from lightning_seg.data import SegmentationDataModule
from lightning_seg.files import absolute, sha256
from lightning_seg.lightning_internals import callbacks_of, is_main_process, take_as_it_is
from lightning_seg.predictions import FORMATS, PROBABILITIES, USUAL_FORMATS, formats_of
from lightning_seg.predictions.folder import PredictionFolder
from lightning_seg.predictions.record import read_record
from lightning_seg.running.ending import refuse_failures, say_results
from lightning_seg.running.exported import ExportedModule
from lightning_seg.structures import DatasetInfo

OPTIONS = ("save", "output", "overwrite")
"""Of ``predict``; no other command has them."""

_DECIDE = (
    "model.config", "model.overrides.", "model.weights", "model.imports", "model.inference",
    "model.float32_matmul_precision", "data.predict.", "data.root", "data.eval_transforms", "data.bands",
    "data.display_bands", "data.value_range", "data.eval_batch_size", "trainer.precision",
)  # fmt: skip
"""How the names of settings begin that decide what is predicted.

All else of ``model`` trains, or changes label maps by rounding alone, as another machine does.
"""

_TRAIN = ("model.overrides.SOLVER.", "model.overrides.optimizer.", "model.overrides.lr_multiplier.")
"""How the names of those among them begin that only train."""

_SUBFOLDER = "predictions"
"""Of a run's folder."""


def add_options(parser: LightningArgumentParser) -> None:
    """Add :data:`OPTIONS`, and let nobody read an image as configuration."""
    take_as_it_is(parser, "data.predict")
    parser.add_argument(
        "--save", type=str, nargs="+", default=[*USUAL_FORMATS], metavar="FORMAT",
        help=f"What is written of each image: {', '.join(FORMATS)}.",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="Folder of the predictions; null: predictions/ in a run folder. What is there and done is left as it is.",
    )
    parser.add_argument(
        "--overwrite", action=ActionYesNo, nargs="?", default=False,
        help="Predict anew what is done already.",
    )  # fmt: skip


def begin(
    choice: RunChoice, settings: Any, dumped: str, data: SegmentationDataModule, model: pl.LightningModule
) -> tuple[RunFolder, PredictionFolder]:
    """Choose the folder: ``--output``, or that of the newest run that has predicted the same, or a new one.

    Args:
        choice: of the run, which goes on where such a folder is there.
        settings: of the command, with the checkpoint as a file.
        dumped: the same as YAML.
        data: of the command.
        model: of the command; an exported file is opened.

    Raises:
        CheckpointError: if an exported file cannot be used.
        ConfigError: if a format is unknown, or ``--output`` holds something else.
        BusyError: if another process predicts there.
    """
    formats, anew = formats_of(settings.save), bool(settings.overwrite)
    if isinstance(model, ExportedModule):
        model.open(Path(settings.ckpt_path), data, on_cpu=settings.trainer.accelerator == "cpu")
        for form in PROBABILITIES.intersection(formats):
            model.network.require_probabilities(f"--save {form}")
    if not is_main_process():  # the first tells it where
        run = choice.begin()
        return run, PredictionFolder(run.path, formats, {}, overwrite=anew)
    made_with = _describe(settings, dumped, data.info)
    if settings.output is not None:
        path = Path(expanded(settings.output))
        predictions = PredictionFolder(path, formats, made_with, overwrite=anew)
        predictions.refuse_others()
        predictions.claim()
        choice.go_on_in(RunFolder(path.parent, "", path.name))
        run = choice.begin()
    else:
        before = newest_run(choice.root, choice.name, lambda run: read_record(run.path / _SUBFOLDER) == made_with)
        if before is not None:
            choice.go_on_in(before)
        run = choice.begin()
        predictions = PredictionFolder(run.path / _SUBFOLDER, formats, made_with, overwrite=anew)
    claim_folder(run.path, predicts=True)
    return run, predictions


def _describe(settings: Any, dumped: str, info: DatasetInfo) -> dict[str, Any]:
    """What decides which files are written and what is in them, but for the images' own content."""
    given = settings.data.predict  # paths, or the settings of a reader
    paths = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    record: dict[str, Any] = {
        "data.predict": [str(absolute(one)) for one in paths],
        "checkpoint": None if settings.ckpt_path is None else _digest(Path(settings.ckpt_path)),
        "classes": info.names,
        "palette": info.palette,
    }
    found = flatten(yaml.safe_load(dumped))
    record |= {name: value for name, value in found.items() if decides(name)}
    if settings.ckpt_path is not None:
        record.pop("model.weights", None)  # the checkpoint brings its own
    return dict(json.loads(json.dumps(record)))  # as it is read again


def decides(setting: str) -> bool:
    """Whether another value of a setting may give other label maps.

    >>> decides("model.overrides.MODEL.PIXEL_MEAN"), decides("model.overrides.SOLVER.BASE_LR")
    (True, False)
    """
    return setting.startswith(_DECIDE) and not setting.startswith(_TRAIN)


def _digest(path: Path) -> str:
    """Of a checkpoint, or of an exported file with what belongs to it."""
    beside = path.with_name(f"{path.name}.data")
    return sha256(path) + (f" {sha256(beside)}" if beside.is_file() else "")


def arguments(given: Mapping[str, Any], model: pl.LightningModule) -> dict[str, Any]:
    """Those of ``trainer.predict``: label maps are not kept in memory, and an exported file is no checkpoint."""
    changed = {"ckpt_path": None} if isinstance(model, ExportedModule) else {}
    return {**given, **changed, "return_predictions": False}


def end(trainer: pl.Trainer, data: SegmentationDataModule) -> None:
    """Say where the files are.

    Raises:
        DataError: with the images that could not be predicted.
    """
    from lightning_seg.callbacks import PredictionFiles

    files = next(callback for callback in callbacks_of(trainer) if isinstance(callback, PredictionFiles))
    say_results(files.predictions.path, "predict")
    refuse_failures(files.failures, len(data.datasets["predict"]))
