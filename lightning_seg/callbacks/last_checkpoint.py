"""Writes ``last.ckpt``: a run that was stopped at any moment goes on from it as if it had never stopped."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.callbacks.stop_signals import StopSignals, exit_status
from lightning_seg.files import DRAFT_SUFFIX
from lightning_seg.lightning_internals import all_batches_used, callbacks_of
from lightning_seg.structures import Batch

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"

_State = dict[str, Any]


class LastCheckpoint(Checkpoint):
    """Saves every ``every_n_steps`` optimiser steps, after each validation and at the end; keeps the last two.

    If any process gets SIGTERM, SIGUSR1 or Ctrl-C, the run saves at the end of the optimiser step and ends with status
    143, 75 or 130. A running validation is finished first. A second Ctrl-C ends the run at once.

    Lightning logs a step after the last hook of its batch. So this saves one hook later: before the next batch, after
    the validation that the step triggers, or after the epoch. All rows of a checkpoint's steps are on disk before the
    checkpoint is. :class:`~pytorch_lightning.callbacks.ModelCheckpoint` saves earlier, so that a kill can lose a row;
    with ``monitor`` and ``every_n_train_steps``, it leaves out the last step of an epoch.

    Args:
        every_n_steps: a kill without warning loses at most this many steps.
    """

    def __init__(self, every_n_steps: int = 500) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}, but must be at least 1")
        self.every_n_steps = every_n_steps
        self._signals = StopSignals()
        self._step = self._saved_step = 0
        self._due = self._stop_asked = False
        self._stop = 0
        self._alter: Callable[[_State], None] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.folder = Path(trainer.strategy.broadcast(str(Path(trainer.default_root_dir) / "checkpoints")))

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.listen()
        _try_to_save(trainer, pl_module)
        self._step = self._saved_step = trainer.global_step
        epoch_loop = trainer.fit_loop.epoch_loop
        if epoch_loop.batch_progress.current.ready == 0:
            epoch_loop.restarting = False  # else, with max_steps, Lightning would go on in an epoch that has not begun

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:  # gradients still add up, and a checkpoint cannot hold them
            self._stop_asked = self._stop_asked or trainer.should_stop  # a Timer (max_time) asks so
            trainer.should_stop = False
            return
        trainer.should_stop = trainer.should_stop or self._stop_asked
        self._step = trainer.global_step
        self._due = self._due or self._step % self.every_n_steps == 0
        self._stop = self._signals.agreed(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._save_if_due(trainer, _next_batch_not_begun)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_if_due(trainer, _epoch_ended if all_batches_used(trainer) else _epoch_cut)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        training_is_over = trainer.global_step == trainer.max_steps  # a resumed run would not validate again
        if self._stop and not trainer.sanity_checking and not training_is_over:
            self._save_if_due(trainer, _validation_begun)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._due = True
            self._stop = self._signals.agreed(trainer)
            if not trainer.is_last_batch:  # else the epoch ends next, and ModelCheckpoint may save the best then
                self._save_if_due(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop = 0
        self._due = self._saved_step != trainer.global_step
        self._save_if_due(trainer, _epoch_ended if all_batches_used(trainer) else _epoch_cut)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: _State) -> None:
        """Let each ``ModelCheckpoint`` find its files again after the run's folder was moved.

        Else it forgets its best score, and saves a worse model over the best one.
        """
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state and callback.dirpath is not None:
                _move(state, Path(callback.dirpath))

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: _State) -> None:
        if self._alter is not None:
            self._alter(checkpoint["loops"]["fit_loop"])

    def _save_if_due(self, trainer: pl.Trainer, alter: Callable[[_State], None] | None = None) -> None:
        """Save if a checkpoint is due, and stop if a signal asked for it.

        Args:
            trainer: its state is saved.
            alter: corrects Lightning's progress at this hook, so that a resumed run goes on at the right place.
        """
        if (self._due or self._stop) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if trainer.is_global_zero:
                _keep_as_previous(self.folder / LAST)
            self._alter = alter
            trainer.save_checkpoint(self.folder / LAST, weights_only=False)  # the optimiser's state, too
            self._alter = None
            self._due, self._saved_step = False, trainer.global_step
        if self._stop:
            rank_zero_info(f"Stopped by a signal after {trainer.global_step} steps: --ckpt_path last goes on there")
            raise SystemExit(exit_status(trainer, self._stop))


def _try_to_save(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Write the state of users' code once, so that a state which cannot be read again fails before a step."""
    states = {callback.state_key: callback.state_dict() for callback in callbacks_of(trainer)}
    with TemporaryDirectory() as folder:
        trial = {"callbacks": states, "hyper_parameters": dict(pl_module.hparams)}
        trainer.strategy.checkpoint_io.save_checkpoint(trial, Path(folder, "trial.ckpt"))


def _move(state: _State, folder: Path) -> None:
    """Change the paths in a ``ModelCheckpoint``'s state to the same files in ``folder``, if they are there."""
    paths = [path for path in (state["best_model_path"], *state["best_k_models"]) if path]
    if state["dirpath"] == str(folder) or not all((folder / Path(path).name).exists() for path in paths):
        return

    def moved(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    state["dirpath"] = str(folder)
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])


def _keep_as_previous(last: Path) -> None:
    if not last.exists():
        return
    draft = last.with_name(PREVIOUS + DRAFT_SUFFIX)
    draft.unlink(missing_ok=True)
    try:
        os.link(last, draft)  # so that last.ckpt exists at every moment
    except OSError:  # a file system without links
        last.replace(last.with_name(PREVIOUS))
    else:
        draft.replace(last.with_name(PREVIOUS))


def _next_batch_not_begun(fit_loop: _State) -> None:
    """Uncount the batch that has been fetched; else Lightning counts its step twice."""
    progress = fit_loop["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts["ready"] = counts["completed"]
    progress["is_last_batch"] = False


def _epoch_cut(fit_loop: _State) -> None:
    """Leave the epoch open, so that the resumed run goes on with its next batch; Lightning counts it as ended."""
    epochs = fit_loop["epoch_progress"]
    for counts in (epochs["total"], epochs["current"]):
        counts["processed"] = counts["completed"] = counts["started"] - 1


def _epoch_ended(fit_loop: _State) -> None:
    """Let the resumed run begin the next epoch; else Lightning, with ``max_steps``, counts one more without a batch."""
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    for counts in (epochs["total"], epochs["current"]):
        counts["completed"] = counts["processed"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False


def _validation_begun(fit_loop: _State) -> None:
    """Count the validation's first batch as begun; else Lightning counts the validation as done."""
    progress = fit_loop["epoch_loop.val_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts["ready"] = counts["started"] = counts["completed"] + 1
        counts["processed"] = counts["completed"]
