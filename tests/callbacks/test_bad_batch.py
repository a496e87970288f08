"""A loss that is not finite is named and kept, and never reaches the weights."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_seg.callbacks import BadBatch
from lightning_seg.cli import main
from lightning_seg.errors import LossError
from lightning_seg.module import SegmentationModule

Experiment = Callable[..., Path]
ARGUMENTS = ["--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0"]
SKIP = ["--trainer.callbacks+=lightning_seg.callbacks.BadBatch", "--trainer.callbacks.skip"]


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches whose loss becomes NaN."""
    batches = [1]
    step = SegmentationModule.training_step

    def bad_step(self: SegmentationModule, batch: Any, batch_idx: int) -> Tensor:
        return step(self, batch, batch_idx) * (float("nan") if batch_idx in batches else 1.0)

    monkeypatch.setattr(SegmentationModule, "training_step", bad_step)
    return batches


def test_stops_and_keeps_what_is_needed(
    experiment: Experiment, tmp_path: Path, bad: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    every = ["--trainer.callbacks+=lightning_seg.callbacks.LastCheckpoint", "--trainer.callbacks.every_n_steps=1"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(experiment()), *ARGUMENTS, *every])
    message = capsys.readouterr().err
    run = tmp_path / "runs/tiny/version_0"
    facts = json.loads((run / "bad_batch/1_0.json").read_text())
    assert (facts["loss"], facts["step"]) == ("nan", 1)
    assert facts["random"] == {"seed": 3, "epoch": 0, "batch": 1, "rank": 0}
    assert len(facts["samples"]) == 2
    for sample in facts["samples"]:
        assert sample["image"] in message
        assert sum(sample["pixels"].values()) == 48 * 64
    assert (run / "bad_batch/config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 1
    assert all(value.isfinite().all() for value in last["state_dict"].values())


def test_skips_as_often_as_it_may(
    experiment: Experiment, tmp_path: Path, bad: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment())
    with pytest.warns(UserWarning, match="step left out"):
        main(["fit", "--config", config, *ARGUMENTS, *SKIP, "1"])
    last = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert all(value.isfinite().all() for value in last["state_dict"].values())

    bad.append(2)
    with pytest.raises(SystemExit), pytest.warns(UserWarning, match="step left out"):
        main(["fit", "--config", config, *ARGUMENTS, *SKIP, "1"])
    assert "1 steps were left out; this one cannot be, since BadBatch has skip: 1" in capsys.readouterr().err


def test_another_process_writes_into_the_folder_of_the_first(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(broadcast=lambda _: str(tmp_path / "version_0")), default_root_dir=str(tmp_path),
        global_step=4, global_rank=1, current_epoch=0, datamodule=SimpleNamespace(seed=0),
    )  # fmt: skip
    module: Any = SimpleNamespace()
    callback = BadBatch()
    callback.setup(trainer, module, "fit")
    callback.on_before_backward(trainer, module, torch.tensor(float("nan")))
    optimizer: Any = None
    with pytest.raises(LossError):
        callback.on_before_optimizer_step(trainer, module, optimizer)
    assert [*tmp_path.rglob("*.json")] == [tmp_path / "version_0/bad_batch/4_1.json"]
