"""Gives every run's trainer its callbacks, loggers and plugins, except those that the user replaces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint, ModelSummary, ProgressBar
from pytorch_lightning.plugins import LayerSync

from lightning_seg import callbacks
from lightning_seg.checkpoints.runs import RunFolder, checkpoint_step
from lightning_seg.checkpoints.writing import DurableCheckpointIO
from lightning_seg.data import SegmentationDataModule
from lightning_seg.lightning_internals import checkpoint_io_of
from lightning_seg.loggers import keep_run_id, prepared
from lightning_seg.loggers.metrics_table import MetricsTable
from lightning_seg.models.normalisation import SyncBatchNorm
from lightning_seg.predictions.folder import PredictionFolder


def as_list(value: Any) -> list[Any]:
    """A list stays; None becomes an empty list, anything else a list of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def equip(
    trainer: Any,
    command: str,
    settings: Any,
    run: RunFolder,
    data: SegmentationDataModule,
    predictions: PredictionFolder | None = None,
) -> dict[str, Any]:
    """Make the trainer's arguments that replace the user's.

    Args:
        trainer: its settings, with callbacks, loggers and plugins as objects.
        command: ``fit`` or another.
        settings: all settings of the command, as they were parsed.
        run: where results go.
        data: of the run.
        predictions: where those of ``predict`` go.
    """
    chosen = _with_the_users(trainer, own_callbacks(command, settings, run, data, predictions))
    arguments: dict[str, Any] = {
        "callbacks": chosen,
        "plugins": own_plugins(as_list(trainer.plugins), trainer.sync_batchnorm, trainer.strategy),
        "default_root_dir": str(run.path),  # callbacks write there
    }
    if any(type(callback) is callbacks.Summary for callback in chosen):
        arguments["enable_model_summary"] = False  # else Lightning says that it adds none of its own
    return arguments


def _with_the_users(trainer: Any, own: Sequence[pl.Callback]) -> list[pl.Callback]:
    """The user's callbacks, and those of ``own`` that the user neither replaces nor switches off."""
    given = as_list(trainer.callbacks)
    switched_off = {
        ModelCheckpoint: trainer.enable_checkpointing is False,
        callbacks.LastCheckpoint: trainer.enable_checkpointing is False,
        ProgressBar: trainer.enable_progress_bar is False,
        ModelSummary: trainer.enable_model_summary is False,
    }
    left_out = tuple(
        kind for kind, off in switched_off.items() if off or any(isinstance(callback, kind) for callback in given)
    )
    chosen = given + [
        callback
        for callback in own
        if not isinstance(callback, left_out) and not any(isinstance(other, type(callback)) for other in given)
    ]
    # last.ckpt is written after best.ckpt: a run that is killed between them goes on from before both.
    return sorted(chosen, key=lambda callback: isinstance(callback, callbacks.LastCheckpoint))


def own_callbacks(
    command: str,
    settings: Any,
    run: RunFolder,
    data: SegmentationDataModule,
    predictions: PredictionFolder | None = None,
) -> list[pl.Callback]:
    """The callbacks that every run of a command has; for the arguments see :func:`equip`."""
    own: list[pl.Callback] = [callbacks.RankLog(), callbacks.ProgressBar()]
    if command == "predict":
        return [*own, callbacks.PredictionFiles(run.path, data.info, predictions)]
    own += [callbacks.MetricsFile(run.path), callbacks.ResultGrid(run.path), callbacks.SamplePictures()]
    own += [callbacks.Dashboard(), callbacks.RunArtifacts()]
    if command in ("validate", "test"):
        own.append(callbacks.ImageFiles(run.path))
        if settings.verbose:
            own.append(callbacks.ResultTable())
    if command == "fit":
        own += [callbacks.Position(), callbacks.ReseedSteps(data.seed), callbacks.BadBatch()]
        own += [callbacks.Throughput(), callbacks.Vitals(), callbacks.FinalValidation(), callbacks.Summary()]
        if data.skip_unreadable:
            own.append(callbacks.SkippedSamples())
        if data.readers["val"] and settings.trainer.limit_val_batches != 0:
            best = ModelCheckpoint(
                run.checkpoints, "best", monitor="val/mIoU", mode="max", enable_version_counter=False
            )
            own.append(best)
        own.append(callbacks.LastCheckpoint())
    return own


def own_plugins(given: list[Any], sync_batchnorm: bool, strategy: Any = "auto") -> list[Any]:
    """The user's plugins, and the project's own of each kind that neither these nor the user's strategy have."""
    own: list[Any] = [DurableCheckpointIO()]
    if sync_batchnorm:
        own.append(SyncBatchNorm())
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        own.append(SLURMEnvironment(auto_requeue=False))  # LastCheckpoint answers the signals
    kinds = (CheckpointIO, LayerSync, ClusterEnvironment)
    of_strategy = [checkpoint_io_of(strategy), getattr(strategy, "cluster_environment", None)]
    taken = tuple(kind for kind in kinds if any(isinstance(plugin, kind) for plugin in [*given, *of_strategy]))
    return given + [plugin for plugin in own if not isinstance(plugin, taken)]


def own_loggers(given: list[Any], command: str, checkpoint: str | None, run: RunFolder, step: int | None) -> list[Any]:
    """``metrics.csv``, and the loggers that the user asks for; ``predict`` has ``metrics.csv`` alone.

    Args:
        given: the user's loggers.
        command: ``fit`` or another.
        checkpoint: the file that the command loads, or None.
        run: where results go.
        step: for a resumed run, how many optimiser steps its checkpoint was saved after; None for a new run.
    """
    table = MetricsTable(run.root, run.name, run.version, step)  # the first one: checkpoints go to its folder
    if command == "predict" or given == [True]:
        return [table]
    evaluated = None if command == "fit" or checkpoint is None else Path(checkpoint)
    trained_in = run.path if evaluated is None else evaluated.parent.parent
    return [
        table,
        *prepared(
            given,
            folder=run.path,
            name=f"{run.name}/{run.version}",
            run_id=keep_run_id(run.path, trained_in, given),
            evaluated_step=None if evaluated is None else checkpoint_step(evaluated),
        ),
    ]
