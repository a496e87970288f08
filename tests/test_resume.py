"""Interrupted runs: the kill test in short, and what the command line sets up for it."""

import json
import os
import resource
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import Dataset, SequentialSampler

from lightning_seg import cli
from lightning_seg.callbacks import stop_signals
from lightning_seg.callbacks.last_checkpoint import _keep_as_previous
from lightning_seg.callbacks.stop_signals import StopSignals
from lightning_seg.checkpoints.writing import DurableCheckpointIO
from lightning_seg.cli import main
from lightning_seg.data.loading.loader import build_loader
from lightning_seg.errors import CheckpointError
from lightning_seg.module import SegmentationModule
from lightning_seg.running.equipment import own_plugins
from tests.conftest import REPOSITORY, benchmark, train_py
from tests.models.networks import EOMT, MASK2FORMER
from tests.ranks import SignalIn

pytestmark = pytest.mark.runs


def test_killed_runs_end_like_one_left_alone() -> None:
    """Two of ``benchmarks/kill.py``, which does many, one by epochs and one by steps."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks/kill.py"), "--runs=2", "--seed=0", "--kinds", "epochs", "steps"],
        capture_output=True, text=True, timeout=500, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("runs, of which 2 were interrupted: 0 differ in a bit")


DOUBLE = ("--trainer.precision", "64-true", "--model.overrides.MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead")
"""PointRend's own arithmetic is in float32."""


def flags(overrides: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"--model.overrides.{key}={json.dumps(value)}" for key, value in overrides.items())


PLATEAU = ("--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau")
FALLS = ("--model.lr_scheduler.patience", "0", "--model.lr_scheduler.threshold", "1", "--trainer.max_epochs", "2")


EPOCHS = ("--trainer.val_check_interval", "1.0")
STEPS = ("--trainer.max_epochs", "-1", "--trainer.max_steps", "12")


@pytest.mark.parametrize(
    ("settings", "during", "stops", "num_rows"),
    [
        ((), "training", [1, 2, 4, 5, 6, 8], 15),
        pytest.param((), "validating", [2, 6], 15, marks=pytest.mark.slow),
        pytest.param(EPOCHS, "validating", [4, 8, 12], 15, marks=pytest.mark.slow),
        pytest.param(STEPS, "training", [1, 2, 4, 5, 6, 8], 15, marks=pytest.mark.slow),
        ((*STEPS, *EPOCHS), "validating", [4, 8], 15),
        ((*STEPS, *EPOCHS, "--trainer.check_val_every_n_epoch", "2"), "training", [4], 13),
        ((*PLATEAU, *FALLS), "training", [2, 4], 10),
        (DOUBLE, "training", [4], 15),
        pytest.param(flags(MASK2FORMER), "training", [1, 4], 15, marks=pytest.mark.slow),
    ],
)
def test_stopping_after_any_step_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
    settings: tuple[str, ...],
    during: str,
    stops: list[int],
    num_rows: int,
) -> None:
    """Steps before an ordinary one (1, 5), before a validation (2, 6) and at the end of an epoch (4, 8).

    The signal comes in the step, or in the validation that follows it.
    """
    kill = benchmark("kill")
    config = kill.write_config(tmp_path / "config", tmp_path, kill.LENGTHS[0])
    arguments = ["fit", "--config", str(config), "--ckpt_path", "last", *settings]
    for name in ("alone", "stopped"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    main(arguments)

    monkeypatch.chdir(tmp_path / "stopped")
    stops = list(stops)
    monkeypatch.setattr(
        StopSignals, "agreed", lambda _, trainer: 75 * (getattr(trainer, during) and trainer.global_step in stops[:1])
    )
    while stops:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 75
        stops.pop(0)
    main(arguments)
    expected, found = kill.result(tmp_path / "alone"), kill.result(tmp_path / "stopped")
    assert [part for part in expected if not kill.same(expected[part], found[part])] == []
    assert len(expected["metrics"]) == num_rows
    run = tmp_path / "stopped/runs/kill/version_0"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]


@pytest.mark.parametrize("overrides", [MASK2FORMER, EOMT], ids=["Mask2FormerHead", "EoMT"])
def test_a_killed_run_of_masks_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None, overrides: dict[str, Any]
) -> None:
    """SIGKILL in step 7, in the middle of the second of three epochs of 4 steps; the last checkpoint is of step 6.

    EoMT anneals the first layer from step 2 to 4, and the second from 8 to 10, by random numbers.
    """
    kill = benchmark("kill")
    config = kill.write_config(tmp_path / "config", tmp_path, kill.LENGTHS[0])
    arguments = ["fit", "--config", str(config), "--ckpt_path", "last", *flags(overrides)]
    for name in ("alone", "killed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    main(arguments)

    monkeypatch.chdir(tmp_path / "killed")
    killer = ["--trainer.callbacks+", "tests.ranks.SignalIn", "--trainer.callbacks.step", "7"]
    killer += ["--trainer.callbacks.rank", "0", "--trainer.callbacks.number", "SIGKILL"]
    assert train_py(*arguments, *killer).returncode == -signal.SIGKILL
    (last,) = Path().rglob("last.ckpt")
    stopped = torch.load(last, weights_only=True)
    assert stopped["global_step"] == 6
    main(arguments)
    expected, found = kill.result(tmp_path / "alone"), kill.result(tmp_path / "killed")
    assert [part for part in expected if not kill.same(expected[part], found[part])] == []
    assert not kill.same(expected["weights"][1], stopped["current_model_state"])


class CtrlC(SignalIn):
    """Ctrl-C in step 2, and in step 3 where ``twice``, which the first would not have begun."""

    def __init__(self, twice: bool) -> None:
        super().__init__(2, rank=0, number="SIGINT")
        self.twice = twice

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_batch_start(trainer)
        if self.twice and trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("wait", "twice", "step"), [(1.0, False, 3), (1.0, True, 3), (-1.0, True, 1)])
def test_ctrl_c_saves_and_a_second_one_ends_at_once(
    experiment: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    wait: float,
    twice: bool,
    step: int,
) -> None:
    """A second one right behind the first is the same one, which torchrun has passed on."""
    monkeypatch.setattr(stop_signals, "_ONE_CTRL_C", wait)
    monkeypatch.setattr(SegmentationModule, "configure_callbacks", lambda _: [CtrlC(twice)])
    previous = signal.getsignal(signal.SIGINT)
    every_step = ["--trainer.callbacks+", "lightning_seg.callbacks.LastCheckpoint", "--trainer.callbacks.every_n_steps"]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(experiment()), "--trainer.limit_val_batches", "0", *every_step, "1"])
    assert stopped.value.code == 130
    assert capfd.readouterr().err.count("Ctrl-C: saving at the end of this step") == 1
    assert ("Stopped by a signal after 3 steps: --ckpt_path last goes on" in caplog.text) == (step == 3)
    checkpoint = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt")
    assert checkpoint["global_step"] == step
    assert signal.getsignal(signal.SIGINT) == previous


def test_ctrl_c_outside_of_training_is_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "SegmentationCLI", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 130


def test_a_job_behind_the_shell_goes_on_ignoring_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = {number: signal.getsignal(number) for number in stop_signals.STATUS}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        StopSignals().listen()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) != previous[signal.SIGTERM]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def test_loading_processes_outlive_ctrl_c() -> None:
    previous = signal.getsignal(signal.SIGINT)
    try:
        loader = build_loader(Pids(), SequentialSampler(Pids()), batch_size=1, num_workers=1)
        batches = iter(loader)
        (first,) = next(batches)
        os.kill(first["pid"], signal.SIGINT)
        assert [sample for batch in batches for sample in batch] == [first] * 7
    finally:
        signal.signal(signal.SIGINT, previous)


class Pids(Dataset[Any]):
    """The process that loads a sample."""

    def __getitem__(self, _: int) -> dict[str, int]:
        return {"pid": os.getpid()}

    def __len__(self) -> int:
        return 8


class FillsTheDisk(pl.Callback):
    """From step 2 on, no file can grow past 64 KiB; a checkpoint is larger."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_ends_a_run_that_goes_on_once_there_is_room(
    experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "fit", "--config", str(experiment()), "--ckpt_path", "last", "--trainer.limit_val_batches", "0",
        "--trainer.callbacks+", "lightning_seg.callbacks.LastCheckpoint", "--trainer.callbacks.every_n_steps", "1",
        "--trainer.max_epochs", "1",
    ]  # fmt: skip
    checkpoints = tmp_path / "runs/tiny/version_0/checkpoints"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(SegmentationModule, "configure_callbacks", lambda _: [FillsTheDisk()])
    try:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "version_0/checkpoints/last.ckpt cannot be written: File too large (" in said
    assert "The earlier last.ckpt is still there and whole. Make room and give the command again" in said
    assert "Traceback" not in said
    assert torch.load(checkpoints / "last.ckpt")["global_step"] == 1
    assert not list(checkpoints.glob("*.part"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    main(arguments)
    assert torch.load(checkpoints / "last.ckpt")["global_step"] == 3


def test_checkpoints_are_read_without_running_code(tmp_path: Path) -> None:
    io = DurableCheckpointIO()
    io.save_checkpoint({"state_dict": {"a": torch.ones(2)}}, tmp_path / "a.ckpt")
    assert io.load_checkpoint(tmp_path / "a.ckpt", weights_only=False)["state_dict"]["a"].tolist() == [1, 1]
    torch.save({"state_dict": Namespace(a=1)}, tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        io.load_checkpoint(tmp_path / "b.ckpt", weights_only=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "b.ckpt"]


@pytest.mark.parametrize("links", [True, False])
def test_the_last_two_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    last = tmp_path / "last.ckpt"
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    for text in ("one", "two", "three"):
        _keep_as_previous(last)
        DurableCheckpointIO().save_checkpoint({"text": text}, last)
    assert torch.load(last) == {"text": "three"}
    assert torch.load(tmp_path / "previous.ckpt") == {"text": "two"}
    assert len(list(tmp_path.iterdir())) == 2


def test_slurm_does_not_requeue_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = own_plugins
    assert not any(isinstance(plugin, SLURMEnvironment) for plugin in plugins([], False))
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    (environment,) = [plugin for plugin in plugins([], False) if isinstance(plugin, SLURMEnvironment)]
    assert environment.auto_requeue is False
    own = SLURMEnvironment(auto_requeue=True)
    assert [plugin for plugin in plugins([own], False) if isinstance(plugin, SLURMEnvironment)] == [own]
    assert plugins([], False, DDPStrategy(cluster_environment=own, checkpoint_io=TorchCheckpointIO())) == []
