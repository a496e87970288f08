"""Checkpoints from W&B. No server is there: its API alone is stood in for, by a folder."""

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError
from lightning_seg.loggers import wandb_checkpoint
from lightning_seg.loggers.wandb_checkpoint import fetch_checkpoint
from tests.loggers.offline import LOGGER, offline_runs

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
        return SimpleNamespace(name="model-abc123:best", version="v3", download=download)

    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(artifact=artifact))
    monkeypatch.setattr(wandb_checkpoint, "why_unreachable", lambda: None)
    main(["validate", *config, *LOGGER, "--ckpt_path", ADDRESS])
    assert asked == [("me/p/model-abc123:best", "model")]
    assert (tmp_path / "runs/wandb/me/p/model-abc123_v3/checkpoints/model.ckpt").is_file()
    (run,) = offline_runs(tmp_path / "runs/tiny/version_1")
    assert run.run_id == "abc123"
    assert run.rows("val/mIoU")


def test_says_why_it_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_checkpoint, "why_unreachable", lambda: "no API key")
    with pytest.raises(CheckpointError, match=f"{ADDRESS} cannot be downloaded: no API key"):
        fetch_checkpoint(ADDRESS, tmp_path)


def test_processes_that_ask_at_once_get_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each download is slow and piecewise; whoever sees the file sees all of it, and later ones download nothing."""
    content, both, downloads = b"x" * 1000, threading.Barrier(2), []

    def download(root: str) -> None:
        Path(root).mkdir(parents=True, exist_ok=True)
        downloads.append(root)
        both.wait(10)
        with (Path(root) / "model.ckpt").open("wb") as file:
            for start in range(0, 1000, 100):
                file.write(content[start : start + 100])
                file.flush()
                time.sleep(0.01 * len(downloads[: 1 + downloads.index(root)]))

    artifact = SimpleNamespace(name="model-abc123:best", version="v3", download=download)
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(artifact=lambda *_, **__: artifact))
    monkeypatch.setattr(wandb_checkpoint, "why_unreachable", lambda: None)

    def fetch(_: int) -> bytes:
        return fetch_checkpoint(ADDRESS, tmp_path).read_bytes()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetch, range(2))) == [content] * 2
    assert len(set(downloads)) == 2
    assert fetch(0) == content
    assert len(downloads) == 2
    folder = tmp_path / "wandb/me/p"
    assert [path.name for path in folder.iterdir()] == ["model-abc123_v3"]  # no draft is left
    assert (folder / "model-abc123_v3/wandb_id").read_text() == "abc123\n"
