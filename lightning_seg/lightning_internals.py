"""Gathers what is used of Lightning, and of its parser jsonargparse, that they do not declare as public.

A minor release may change each of these, so ``pyproject.toml`` bounds Lightning below the next one.
``tests/test_lightning_internals.py`` says what breaks if one changes.
"""

import inspect
import signal
from argparse import Action
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

OVERRIDDEN = {
    "pytorch_lightning.cli.LightningCLI._prepare_subcommand_parser": "fit alone has --dry_run",
    "pytorch_lightning.cli.LightningCLI._run_subcommand": "an error of a run is explained, and ends other processes",
    "pytorch_lightning.cli.LightningCLI._parse_ckpt_path": "a checkpoint's settings must not win over explicit flags",
    "pytorch_lightning.callbacks.RichProgressBar._get_train_description": "an epoch without an end is not -1 of 0",
    "jsonargparse.ArgumentParser._load_env_vars": "overrides of several variables add up",
}
"""Methods that classes of this package replace, and what for."""

WANDB_STATE = {
    "_experiment": "whether the run is open; set to None when it ends, so that a later command opens it again",
    "_offline": "whether the user asks for no network; Lightning would set WANDB_MODE for the whole process",
    "_log_model": "which checkpoints the user wants to upload",
    "_logged_model_time": "which files are uploaded already",
}
"""Attributes of a ``WandbLogger`` that ``WandbRun`` reads and writes, and what for."""

_RUN = pl.Trainer._run.__code__

_MEANS_HERE = {
    "ckpt_path": "A checkpoint, a run folder, wandb://…, or last or best of the newest run of this name. fit takes no "
    "folder, and with last goes on in that run; predict takes an exported .onnx or .pt2, too.",
    "weights_only": "Has no effect: no checkpoint may run code.",
}
"""Options of Lightning's of which its own texts are not true here."""


def checkpoint_is_coming() -> bool:
    """Whether the trainer that calls ``setup`` will load a checkpoint afterwards.

    ``Trainer.ckpt_path`` says so only then, which is too late to load weights into a network that a strategy has spread
    over processes. Before, it is an argument of ``Trainer._run``, so this looks at that function's frame.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _RUN:
        frame = frame.f_back
    return frame is not None and frame.f_locals.get("ckpt_path") is not None


def options_of(parser: Any) -> list[Action]:
    """The options of a parser, which argparse lists nowhere else."""
    options: list[Action] = parser._actions
    return options


def describe_options(parser: Any) -> None:
    """Let ``--help`` say what Lightning's own options mean here."""
    for option in options_of(parser):
        option.help = _MEANS_HERE.get(option.dest, option.help)


def take_as_it_is(parser: Any, name: str) -> None:
    """Never read the file that an option names as configuration: jsonargparse would do so with images of any size."""
    for option in options_of(parser):
        if option.dest == name:
            option._enable_path = False  # type: ignore[attr-defined]


def variable_of(parser: Any, option: Action | None = None) -> str:
    """The environment variable that jsonargparse reads an option from; without an option, how all of them begin.

    jsonargparse has no public function for it, and its rule depends on subcommands.
    """
    from jsonargparse._formatters import get_env_var

    return str(get_env_var(parser) if option is None else get_env_var(parser, option))


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks; Lightning sets that attribute without declaring it."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def is_main_process() -> bool:
    """Whether this is the first process of a run; it is known from the environment, before there is a trainer."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def logged_step(trainer: pl.Trainer) -> int:
    """The step, from 0, at which Lightning logs now; the figures of callbacks belong there, too."""
    step: int = trainer.fit_loop.epoch_loop._batches_that_stepped
    return step


def logs_step(trainer: pl.Trainer, step: int) -> bool:
    """Whether Lightning logs the figures of this optimiser step, from 1; it sets the interval without declaring it."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(interval) and step % interval == 0


def log_from(trainer: pl.Trainer, step: int) -> None:
    """Log at ``step`` from now on: Lightning counts wrongly if a run goes on between two validations."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def all_batches_used(trainer: pl.Trainer) -> bool:
    """Whether the epoch has no further batch; an epoch that ``max_steps`` cuts goes on in a resumed run."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether Lightning will validate after this batch; if so, a resumed epoch is not over yet."""
    fetcher: Any = trainer.fit_loop._data_fetcher  # it exists once the data is set up
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def kill_started_processes(trainer: pl.Trainer) -> None:
    """End the processes that Lightning started for this run, since they may wait for this one for ever.

    It sends SIGKILL: a training answers SIGTERM only at the end of a step.
    """
    from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def checkpoint_io_of(strategy: Any) -> Any:
    """The plugin for checkpoints that a strategy was given, or None; the strategy's own property would make one up."""
    return getattr(strategy, "_checkpoint_io", None)


def wandb_arguments(logger: Any) -> dict[str, Any]:
    """The arguments with which a ``WandbLogger`` will call ``wandb.init``; the run folder decides some of them."""
    arguments: dict[str, Any] = logger._wandb_init
    return arguments


def set_wandb_id(logger: Any, run_id: str | None) -> None:
    """Give a ``WandbLogger`` the id of its run, since a resumed run keeps its id."""
    logger._id = logger._wandb_init["id"] = run_id


def tensorboard_place(logger: Any) -> tuple[str, str | None, Any]:
    """Root, name and version that a ``TensorBoardLogger`` was given; its properties would make a version up."""
    return logger._root_dir, logger._name, logger._version


def place_tensorboard(logger: Any, root: str, name: str, version: str) -> None:
    """Let a ``TensorBoardLogger`` write to ``root/name/version``; the run folder is chosen after the logger is made."""
    logger._root_dir, logger._name, logger._version = root, name, version
