"""What a new user sees of a run: figures and steps that agree with its files, and no notice that asks for nothing."""

import csv
import logging
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightning_seg.cli import main
from lightning_seg.running.silence import UNLOGGED, silence_lightning
from tests.conftest import CLASSES, folder, write_pair
from tests.loggers.offline import offline_runs

Experiment = Callable[..., Path]


@pytest.fixture
def with_srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which Slurm is installed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/srun").write_text("")
    (tmp_path / "bin/srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_the_console_of_a_training(
    experiment: Experiment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    with_srun: None,
) -> None:
    config = ["--config", str(experiment())]
    main([
        "fit", *config, "--trainer.max_epochs", "-1", "--trainer.max_steps", "3", "--trainer.accumulate_grad_batches",
        "2", "--trainer.val_check_interval", "2", "--trainer.callbacks+", "EarlyStopping",
        "--trainer.callbacks.monitor", "val/loss",
    ])  # fmt: skip
    shown = capsys.readouterr()
    with (tmp_path / "runs/tiny/version_0/metrics.csv").open(newline="") as file:
        rows = [(row["epoch"], row["step"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert rows == [("0", "0"), ("1", "2")]  # after the first step of each epoch of two
    assert re.findall(r"epoch +(\d+)  step +(\d+)  val", shown.out) == rows
    assert re.search(r"Epoch 1 .* 2/2 ", shown.out)  # the second epoch ends after two batches, with the third step
    assert "FLOPs" not in shown.out
    assert re.search(r"segmentor\.network\.sem_seg_head .* SemSegFPNHead .* 16\.5 K", shown.out)
    assert "11.2 M of 11.2 M parameters are trained" in shown.out
    main(["validate", *config, "--ckpt_path", "last"])
    said = "\n".join([shown.err, *(str(warning.message) for warning in recwarn)])
    for notice in ("srun", "torch.jit.script", "model summary", "callbacks used to create the checkpoint"):
        assert notice not in said


def test_a_run_without_a_validation_has_no_best(
    experiment: Experiment, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    main(["fit", "--config", str(experiment()), "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"])
    assert not any("monitored key" in str(warning.message) for warning in recwarn)
    assert [path.name for path in (tmp_path / "runs/tiny/version_0/checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    "message",
    [
        "`torch.jit.load` is deprecated. Please switch to `torch.export`.",
        "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided: ['EMA']",
        "The `srun` command is broken",
    ],
)
def test_other_warnings_stay(message: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        silence_lightning()
        warnings.warn(message, UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in said] == [message]


def test_of_a_logger_only_the_silenced_messages_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    silence_lightning()
    for name, (text, _) in UNLOGGED.items():
        logging.getLogger(name).warning(f"{text}, and more")
        logging.getLogger(name).warning(name)
    assert caplog.messages == [*UNLOGGED]


def test_a_second_command_of_a_process_filters_no_more() -> None:
    silence_lightning()
    filters = logging.getLogger("pytorch_lightning.utilities.rank_zero").filters
    before = list(filters)
    silence_lightning()
    assert filters == before


def test_pictures_of_several_sizes_have_one_frame(
    experiment: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_DATA_DIR", "LIGHTNING_SEG_WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    sizes = [(48, 64), (32, 80)]
    for part in ("train", "val"):
        for index, size in enumerate(sizes):
            write_pair(tmp_path / part, str(index), np.full(size, index, dtype=np.uint8))
    config = experiment(root=str(tmp_path), train=folder("train"), val=folder("val"), classes=CLASSES[:2])
    logger = ["--trainer.logger", "pytorch_lightning.loggers.WandbLogger"]
    main(["fit", "--config", str(config), *logger, "--trainer.max_steps", "1"])
    assert "sizes do not match" not in caplog.text
    (run,) = offline_runs(tmp_path / "runs/tiny/version_0/wandb")
    for name in ("val/pictures", "train/pictures"):
        ((_, entry),) = run.rows(name)
        assert (entry["count"], entry["height"], entry["width"]) == (2, 48, 80)
