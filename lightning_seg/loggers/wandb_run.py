"""Ties Weights & Biases to a run folder: each folder is one run of W&B, with or without a network."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from lightning_seg.errors import describe
from lightning_seg.lightning_internals import is_main_process, set_wandb_id, wandb_arguments
from lightning_seg.loggers.guard import Guard, guarded
from lightning_seg.loggers.tensorboard_run import place_events
from lightning_seg.loggers.wandb_server import why_unreachable

RUN_ID_FILE = "wandb_id"
"""The file in a run folder that holds the run's id in W&B."""

STEP = "trainer/global_step"


class WandbRun(Guard):
    """Wraps a :class:`~pytorch_lightning.loggers.WandbLogger`, and ties it to a run folder.

    Args:
        logger: the logger to wrap.
        folder: of the command. W&B's files go there, unless ``save_dir`` or ``WANDB_DIR`` says otherwise.
        run_id: the run's id in W&B; None on all processes but the first.
        evaluated_step: optimiser steps of the checkpoint that is evaluated; None in training.
    """

    folder: Path
    run_id: str | None
    evaluated_step: int | None
    _checkpoints: Checkpoint | None

    def __init__(self, logger: WandbLogger, folder: Path, run_id: str | None, evaluated_step: int | None) -> None:
        super().__init__(logger)
        vars(self).update(folder=folder, run_id=run_id, evaluated_step=evaluated_step, _checkpoints=None)

    def __reduce__(self) -> Any:
        self.experiment  # noqa: B018  # else the logger opens itself when it is pickled
        return super().__reduce__()

    def _open(self) -> Any:
        if self._logger._experiment is not None:
            return self._logger._experiment
        import wandb

        self._settle_folders()
        reason = self._why_offline()
        init = wandb_arguments(self._logger)
        init.pop("anonymous", None)  # Lightning always gives it, and W&B warns that it has no effect
        given = init.get("settings") or {}
        ours = {
            "x_transaction_log_flush_interval": 1.0,
            "init_timeout": 30.0,
        }  # seconds; a kill loses the first
        init["settings"] = {**ours, **(given if isinstance(given, dict) else given.model_dump(exclude_unset=True))}
        self._logger._offline = False  # Lightning would set WANDB_MODE for the whole process
        run = None
        if reason is None:
            try:
                run = super()._open()
            except Exception as error:
                reason = f"the server does not take the run: {describe(error)}"
                wandb.teardown()  # else its service keeps the id of the run that did not start
                os.environ.pop("WANDB_SERVICE", None)  # a parent process's service outlives this
        if reason is not None:
            init["mode"] = "offline"
            init["settings"]["silent"] = True  # our notice says it all
            run = super()._open()
        if isinstance(run, wandb.Run):
            _define_metrics(run)
            if reason is not None:
                rank_zero_info(
                    f"W&B is offline ({reason}): nothing is uploaded. Whenever you like: "
                    f"wandb sync {os.path.relpath(run.settings.sync_dir)}"
                )
        return run

    def _settle_folders(self) -> None:
        """Put W&B's files into the run folder, also what it stages for upload, since a home folder has a quota.

        The paths are absolute: W&B's service is another process, which may work in another folder.
        """
        init = wandb_arguments(self._logger)
        if init.get("dir") in (None, "."):
            init["dir"] = None if "WANDB_DIR" in os.environ else str(self.folder.resolve())
        if os.environ.get("WANDB_DATA_DIR") in (None, os.environ.get("LIGHTNING_SEG_WANDB_DATA_DIR")):
            staging = str(Path(init["dir"] or os.environ["WANDB_DIR"]).resolve() / "wandb" / "data")
            os.environ["WANDB_DATA_DIR"] = os.environ["LIGHTNING_SEG_WANDB_DATA_DIR"] = staging

    def _why_offline(self) -> str | None:
        """Why nothing can be uploaded, in words; None if W&B's server is reachable, or W&B is switched off."""
        import wandb

        mode = wandb_arguments(self._logger).get("mode") or os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
        if self._logger._offline or mode in ("offline", "dryrun"):
            return "as asked"
        if mode == "disabled":
            return None
        return why_unreachable()

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the resolved configuration of a training, which holds more than the model's arguments.

        An evaluation changes nothing: the run in W&B keeps the training's configuration.
        """
        if self.evaluated_step is None and (self.folder / "config.yaml").is_file():
            self._try(self._log_config)

    @rank_zero_only
    def _log_config(self) -> None:
        config = yaml.safe_load((self.folder / "config.yaml").read_text())
        self.experiment.config.update(config, allow_val_change=True)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log; the figures of an evaluated checkpoint are logged at its last step, as its training logged them."""
        if self.evaluated_step is not None:
            step, metrics = (
                max(0, self.evaluated_step - 1),
                {name: value for name, value in metrics.items() if name != "epoch"},
            )
        self._call("log_metrics", metrics, step)

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        if self._logger._log_model == "all":
            self._try(self._upload_checkpoints, checkpoint_callback)
        self._checkpoints = checkpoint_callback

    def finalize(self, status: str) -> None:
        """Upload what ``log_model`` asks for and end the run; a later command goes on with the same id."""
        if self._logger._experiment is None:
            return
        if self._logger._log_model and status == "success" and self.evaluated_step is None:
            self._try(self._upload_checkpoints, self._checkpoints)
        self._try(self._logger._experiment.finish, exit_code=0 if status == "success" else 1)
        self._logger._experiment = None

    @rank_zero_only
    def _upload_checkpoints(self, callback: Checkpoint | None) -> None:
        """Log each file that is new or has changed as an artifact with the aliases ``best`` and ``last``."""
        import wandb

        best, facts = "", {}
        if isinstance(callback, ModelCheckpoint):  # without a validation there is none
            best = callback.best_model_path
            score = callback.current_score if callback.best_model_score is None else callback.best_model_score
            facts = {"monitor": callback.monitor, "best_score": _number(score)}
        aliases: dict[str, list[str]] = {}
        for alias, path in (("best", best), ("last", str(self.folder / "checkpoints" / "last.ckpt"))):
            if path and Path(path).is_file():
                aliases.setdefault(path, []).append(alias)
        for path, names in aliases.items():
            modified = Path(path).stat().st_mtime
            if self._logger._logged_model_time.get(path) == modified:
                continue
            metadata = {"file": Path(path).name, **facts}
            artifact = wandb.Artifact(f"model-{self.run_id}", type="model", metadata=metadata)
            artifact.add_file(path, name="model.ckpt")
            self.experiment.log_artifact(artifact, aliases=["latest", *names])
            self._logger._logged_model_time[path] = modified


def prepared(
    loggers: Sequence[Logger],
    *,
    folder: Path,
    name: str,
    run_id: str | None,
    evaluated_step: int | None,
) -> list[Logger]:
    """Guard the user's loggers, and tie those of W&B and TensorBoard to the run folder.

    Args:
        loggers: of the user.
        folder: of the command.
        name: the name of a new run in W&B, unless the user or ``WANDB_NAME`` gives one.
        run_id: the run's id in W&B, see :func:`keep_run_id`; None on all processes but the first.
        evaluated_step: optimiser steps of the checkpoint that is evaluated; None in training.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            place_events(logger, folder, name)
    return [
        _tied(logger, folder, name, run_id, evaluated_step) if isinstance(logger, WandbLogger) else guarded(logger)
        for logger in loggers
    ]


def _tied(logger: WandbLogger, folder: Path, name: str, run_id: str | None, evaluated_step: int | None) -> Logger:
    set_wandb_id(logger, run_id)
    if evaluated_step is None and not wandb_arguments(logger).get("name") and "WANDB_NAME" not in os.environ:
        wandb_arguments(logger)["name"] = name
    return cast(Logger, WandbRun(logger, folder, run_id, evaluated_step))


def keep_run_id(folder: Path, trained_in: Path, loggers: Sequence[Logger]) -> str | None:
    """Choose the run's id in W&B and write it into the run's folder, on the main process.

    The first of these counts: ``WANDB_RUN_ID``, which sweeps set; the id that the user gives the logger; the id of the
    run that is resumed or evaluated; a new id.

    Args:
        folder: of the command.
        trained_in: the run folder of the evaluated checkpoint; ``folder`` in a training, where a resumed run has an id.
        loggers: of the user.
    """
    mine = next((logger for logger in loggers if isinstance(logger, WandbLogger)), None)
    if mine is None or not is_main_process():
        return None
    stored = trained_in / RUN_ID_FILE
    run_id = os.environ.get("WANDB_RUN_ID") or wandb_arguments(mine).get("id")
    if not run_id and stored.is_file():
        run_id = stored.read_text().strip()
    run_id = str(run_id or os.urandom(4).hex())
    (folder / RUN_ID_FILE).write_text(run_id + "\n")
    return run_id


def without_missing(loggers: Any) -> Any:
    """Take W&B out of the ``trainer.logger`` setting, with a warning, if W&B cannot be imported."""
    listed = loggers if isinstance(loggers, list) else [loggers]
    wanted = [entry for entry in listed if str(_class_path(entry)).rpartition(".")[2] == "WandbLogger"]
    if not wanted:
        return loggers
    try:
        import wandb  # noqa: F401  # whether it loads is the question
    except Exception as error:
        rank_zero_warn(f"W&B does not load, and the run goes on without it (pip install wandb): {describe(error)}")
        return [entry for entry in listed if entry not in wanted] or None
    return loggers


def _class_path(entry: Any) -> str | None:
    return getattr(entry, "class_path", None) or (entry.get("class_path") if isinstance(entry, dict) else None)


def _define_metrics(run: Any) -> None:
    """Name the axes, and let W&B compare runs by their best value, not by the last one."""
    run.define_metric(STEP)
    run.define_metric("epoch", step_metric=STEP)
    for name, summary in (("val/mIoU", "max"), ("val/loss", "min")):
        run.define_metric(name, step_metric=STEP, summary=summary)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
