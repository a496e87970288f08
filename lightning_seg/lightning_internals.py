"""What is used of Lightning that it does not declare as public, and why; ``tests/test_lightning_internals.py`` watches.

A minor release may change each of these, so ``pyproject.toml`` bounds Lightning below the next one.
"""

import signal
from typing import Any

import pytorch_lightning as pl

OVERRIDDEN = {
    "pytorch_lightning.cli.LightningCLI._prepare_subcommand_parser": "fit alone has --dry_run",
    "pytorch_lightning.cli.LightningCLI._run_subcommand": "an error of a run is explained, and ends other processes",
    "pytorch_lightning.cli.LightningCLI._parse_ckpt_path": "a checkpoint's settings must not win over explicit flags",
    "pytorch_lightning.callbacks.RichProgressBar._get_train_description": "an epoch without an end is not -1 of 0",
}
"""Methods that classes of this package replace, and what for."""


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks, whose attribute Lightning sets without declaring it."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def logged_step(trainer: pl.Trainer) -> int:
    """The step that Lightning logs a figure of this moment at, from 0: a callback's figures belong there too."""
    step: int = trainer.fit_loop.epoch_loop._batches_that_stepped
    return step


def log_from(trainer: pl.Trainer, step: int) -> None:
    """Log at ``step`` from now on: where a run goes on between two validations, Lightning counts wrongly."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def all_batches_used(trainer: pl.Trainer) -> bool:
    """Whether the epoch has no further batch: one that ``max_steps`` cuts goes on in a resumed run."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether Lightning would validate after the batch that is done: then a resumed epoch is not over yet."""
    fetcher: Any = trainer.fit_loop._data_fetcher  # there since the data have been set up
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def kill_started_processes(trainer: pl.Trainer) -> None:
    """End the processes that Lightning started for this run: they may wait for this one for ever.

    By SIGKILL, since a training answers SIGTERM only at the end of a step.
    """
    from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def checkpoint_io_of(strategy: Any) -> Any:
    """How a strategy was told to write checkpoints; None where it was not: its property makes one up."""
    return getattr(strategy, "_checkpoint_io", None)


def wandb_arguments(logger: Any) -> dict[str, Any]:
    """What a ``WandbLogger`` will call ``wandb.init`` with: the run folder decides about some of it later."""
    arguments: dict[str, Any] = logger._wandb_init
    return arguments


def set_wandb_id(logger: Any, run_id: str | None) -> None:
    """Give a ``WandbLogger`` the id that its run will have: a resumed run keeps its own."""
    logger._id = logger._wandb_init["id"] = run_id


def tensorboard_place(logger: Any) -> tuple[str, str | None, Any]:
    """Where a ``TensorBoardLogger`` writes, as it was given: its properties make a version up."""
    return logger._root_dir, logger._name, logger._version


def place_tensorboard(logger: Any, root: str, name: str, version: str) -> None:
    """Let a ``TensorBoardLogger`` write to ``root/name/version``: the run folder is known after the logger is made."""
    logger._root_dir, logger._name, logger._version = root, name, version
