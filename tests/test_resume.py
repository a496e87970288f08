"""Interrupted runs: the kill test in short, and what the command line sets up for it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy

from lightning_seg.callbacks.last_checkpoint import _keep_as_previous
from lightning_seg.callbacks.stop_signals import StopSignals
from lightning_seg.checkpoint_io import DurableCheckpointIO
from lightning_seg.cli import SegmentationCLI, main
from lightning_seg.errors import CheckpointError
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.runs


def test_killed_runs_end_like_one_left_alone() -> None:
    """Two of ``benchmarks/kill.py``, which does many, one by epochs and one by steps."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks/kill.py"), "--runs", "2", "--seed", "0"],
        capture_output=True, text=True, timeout=500, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("runs, of which 2 were interrupted: 0 differ in a bit")


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
    spec = importlib.util.spec_from_file_location("kill", REPOSITORY / "benchmarks/kill.py")
    assert spec is not None
    assert spec.loader is not None
    kill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill)
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


def test_checkpoints_are_read_without_running_code(tmp_path: Path) -> None:
    io = DurableCheckpointIO()
    io.save_checkpoint({"state_dict": {"a": torch.ones(2)}}, tmp_path / "a.ckpt")
    assert io.load_checkpoint(tmp_path / "a.ckpt", weights_only=False)["state_dict"]["a"].tolist() == [1, 1]
    io.save_checkpoint({"state_dict": Path("x")}, tmp_path / "b.ckpt")
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
    plugins = SegmentationCLI._plugins
    assert not any(isinstance(plugin, SLURMEnvironment) for plugin in plugins([], False))
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    (environment,) = [plugin for plugin in plugins([], False) if isinstance(plugin, SLURMEnvironment)]
    assert environment.auto_requeue is False
    own = SLURMEnvironment(auto_requeue=True)
    assert [plugin for plugin in plugins([own], False) if isinstance(plugin, SLURMEnvironment)] == [own]
    assert plugins([], False, DDPStrategy(cluster_environment=own, checkpoint_io=TorchCheckpointIO())) == []
