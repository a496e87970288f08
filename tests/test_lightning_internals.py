"""Canaries: each says which behaviour of this project breaks where a Lightning that is not declared public changes."""

import pkgutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import wandb
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.strategies import DDPStrategy

from lightning_seg import lightning_internals as internals
from lightning_seg.arguments import Parser
from lightning_seg.callbacks import ProgressBar
from lightning_seg.cli import SegmentationCLI


@contextmanager
def canary(broken: str) -> Iterator[None]:
    """Fail with a sentence, also where an attribute is gone."""
    try:
        yield
    except Exception as error:
        pytest.fail(f"Lightning {pl.__version__} has changed: {broken} ({type(error).__name__}: {error})")


class Logging(BoringModel):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("figure", 0.0, logger=True)
        return super().training_step(batch, batch_idx)


class Steps(Logger):
    """Remembers the steps that Lightning logs at."""

    name, version = "steps", 0

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[int | None] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "figure" in metrics:
            self.logged.append(step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class Watcher(pl.Callback):
    def __init__(self, first: int | None = None) -> None:
        self.first = first
        self.steps: list[int] = []
        self.used: list[bool] = []
        self.due: list[bool] = []
        self.validated: list[int] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.first is not None and trainer.global_step == 0:
            internals.log_from(trainer, self.first)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.steps.append(internals.logged_step(trainer))
        self.used.append(internals.all_batches_used(trainer))
        self.due.append(internals.validation_is_due(trainer))

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.validated.append(len(self.due) - 1)


def train(root: Path, watcher: Watcher, **settings: Any) -> Steps:
    steps, rng = Steps(), torch.get_rng_state()
    trainer = pl.Trainer(
        accelerator="cpu", default_root_dir=root, logger=steps, callbacks=[watcher], limit_val_batches=1,
        num_sanity_val_steps=0, log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, **{"max_epochs": 1, "limit_train_batches": 4, **settings},
    )  # fmt: skip
    trainer.fit(Logging())
    torch.set_rng_state(rng)
    return steps


pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]


def test_the_step_of_figures(tmp_path: Path) -> None:
    with canary("pictures and charts of callbacks are logged at other steps than losses"):
        steps = train(tmp_path, watcher := Watcher())
        assert watcher.steps == steps.logged == [0, 1, 2, 3]
    with canary("a resumed run logs at wrong steps"):
        assert train(tmp_path, Watcher(first=7)).logged == [7, 8, 9, 10]


def test_the_end_of_an_epoch(tmp_path: Path) -> None:
    with canary("a run that max_steps ends inside an epoch is resumed at the next one"):
        train(tmp_path, watcher := Watcher())
        assert watcher.used == [False, False, False, True]
        train(tmp_path, watcher := Watcher(), max_epochs=-1, max_steps=2)
        assert watcher.used == [False, False]


def test_the_validation_that_is_due(tmp_path: Path) -> None:
    with canary("a run that is resumed at the end of an epoch validates twice or not at all"):
        train(tmp_path, watcher := Watcher(), val_check_interval=2)
        assert [index for index, due in enumerate(watcher.due) if due] == watcher.validated == [1, 3]


def test_processes_that_were_started_are_killed() -> None:
    with canary("an error of one process leaves the others waiting for ever"):
        trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
        launcher: Any = trainer.strategy.launcher
        with subprocess.Popen(["sleep", "60"]) as process:
            launcher.procs.append(process)
            internals.kill_started_processes(trainer)
            assert process.wait(timeout=10) == -signal.SIGKILL


def test_a_trainer_of_one_process_has_none_to_kill() -> None:
    internals.kill_started_processes(pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))


def test_the_callbacks_of_a_trainer() -> None:
    given = pl.Callback()
    trainer = pl.Trainer(callbacks=[given], accelerator="cpu", devices=1, logger=False)
    assert given in internals.callbacks_of(trainer), "callbacks that users give would be passed over by all checks"


def test_the_checkpoint_plugin_of_a_strategy() -> None:
    with canary("a user's own way to write checkpoints is replaced, or ours is left out"):
        assert internals.checkpoint_io_of(DDPStrategy(checkpoint_io=(own := TorchCheckpointIO()))) is own
        assert internals.checkpoint_io_of(DDPStrategy()) is None
        assert internals.checkpoint_io_of("ddp") is None


def test_arguments_of_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class BegunError(Exception):
        pass

    def init(**arguments: Any) -> None:
        begun.update(arguments)
        raise BegunError

    begun: dict[str, Any] = {}
    with canary("a W&B run has not the id, name and folder of its run folder"):
        logger = WandbLogger(project="p", save_dir=str(tmp_path))
        assert internals.wandb_arguments(logger)["project"] == "p"
        internals.set_wandb_id(logger, "abc")
        internals.wandb_arguments(logger)["name"] = "n/version_0"
        assert logger.version == "abc"
        monkeypatch.setattr(wandb, "init", init)
        with pytest.raises(BegunError):
            logger.experiment  # noqa: B018  # opens the run
        assert (begun["id"], begun["name"]) == ("abc", "n/version_0")


def test_the_place_of_tensorboard(tmp_path: Path) -> None:
    with canary("events of TensorBoard are not in the run folder"):
        logger = TensorBoardLogger(".")
        assert internals.tensorboard_place(logger) == (".", "lightning_logs", None)
        internals.place_tensorboard(logger, str(tmp_path), "tensorboard", "")
        assert Path(logger.log_dir) == tmp_path / "tensorboard"


@pytest.mark.parametrize("place", internals.OVERRIDDEN)
def test_overridden_methods(place: str) -> None:
    kind, _, name = place.rpartition(".")
    with canary(f"{internals.OVERRIDDEN[place]}: {place} is not called any more"):
        assert callable(vars(base := pkgutil.resolve_name(kind)).get(name))
        assert any(issubclass(own, base) and name in vars(own) for own in (SegmentationCLI, ProgressBar, Parser))


@pytest.mark.filterwarnings("ignore:Total length of .*DataLoader.* is zero")
def test_a_checkpoint_that_is_coming(tmp_path: Path) -> None:
    class Asking(BoringModel):
        def setup(self, stage: str) -> None:
            told.append(internals.checkpoint_is_coming())

    told: list[bool] = []
    with canary("pretrained weights are read, or even fetched, where a checkpoint is given"):
        settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
        settings |= {"default_root_dir": tmp_path, "enable_model_summary": False, "fast_dev_run": True}
        trainer = pl.Trainer(**settings)
        trainer.fit(Asking())
        trainer.save_checkpoint(path := tmp_path / "a.ckpt")
        pl.Trainer(**settings).validate(Asking(), ckpt_path=path)
        assert told == [False, True]
        assert not internals.checkpoint_is_coming()


def test_an_option_whose_file_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[a, b]")
    parser = Parser(exit_on_error=False)
    parser.add_argument("--images", type=list[str] | str, sub_configs=True)
    with canary("predict reads large images as configuration"):
        assert parser.parse_args([f"--images={tmp_path / 'list.yaml'}"]).images == ["a", "b"]
        internals.take_as_it_is(parser, "images")
        assert parser.parse_args([f"--images={tmp_path / 'list.yaml'}"]).images == str(tmp_path / "list.yaml")


def test_variables_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with canary("a config or overrides that are given by variables of the environment are passed over"):
        parser = Parser(prog="train.py", env_prefix="SEG", default_env=True)
        option = parser.add_argument("--model.config")
        assert option in internals.options_of(parser)
        assert internals.variable_of(parser) == "SEG_"
        assert internals.variable_of(parser, option) == "SEG_MODEL__CONFIG"
        monkeypatch.setenv("SEG_MODEL__CONFIG", "a.yaml")
        assert parser.parse_args([])["model.config"] == "a.yaml"


@pytest.mark.parametrize("name", internals.WANDB_STATE)
def test_state_of_wandb(name: str, tmp_path: Path) -> None:
    with canary(f"a run of W&B goes wrong, since {name} tells {internals.WANDB_STATE[name]}"):
        assert name in vars(WandbLogger(project="p", save_dir=str(tmp_path)))
