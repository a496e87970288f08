"""Checkpoints from W&B. No server is there: its API alone is stood in for, by a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError
from lightning_seg.loggers import fetch_checkpoint, wandb_checkpoint
from tests.loggers.offline import offline_runs
from tests.loggers.test_wandb_run import LOGGER

ADDRESS = "wandb://me/p/model-abc123:best"


def test_evaluates_and_adds_to_the_run_that_trained_it(
    experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_DATA_DIR", "LIGHTNING_SEG_WANDB_DATA_DIR", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    config = ["--config", str(experiment())]
    main(["fit", *config, "--trainer.max_epochs", "1"])
    asked = []

    def download(root: str) -> None:
        Path(root).mkdir(parents=True)
        shutil.copy(tmp_path / "runs/tiny/version_0/checkpoints/best.ckpt", Path(root) / "model.ckpt")

    def artifact(name: str, type: str) -> SimpleNamespace:
        asked.append((name, type))
        return SimpleNamespace(name="model-abc123:v3", download=download)

    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(artifact=artifact))
    monkeypatch.setattr(wandb_checkpoint, "why_unreachable", lambda: None)
    main(["validate", *config, *LOGGER, "--ckpt_path", ADDRESS])
    assert asked == [("me/p/model-abc123:best", "model")]
    (run,) = offline_runs(tmp_path / "runs/tiny/version_1")
    assert run.run_id == "abc123"
    assert run.rows("val/mIoU")


def test_says_why_it_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_checkpoint, "why_unreachable", lambda: "no API key")
    with pytest.raises(CheckpointError, match=f"{ADDRESS} cannot be downloaded: no API key"):
        fetch_checkpoint(ADDRESS, tmp_path)
