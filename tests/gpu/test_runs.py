"""Whole runs on a GPU: precision, norms, strategies, resuming to the bit, signals, and steps that wait for nothing."""

import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_seg.cli import main
from lightning_seg.module import SegmentationModule
from tests.gpu.devices import on
from tests.models.samples import make_batch
from tests.ranks import SignalIn
from tests.training import make

Experiment = Callable[..., Path]
LOW_MEMORY = ["--model.criterion", "lightning_seg.losses.CrossEntropy", "--model.criterion.low_memory", "true"]


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """A process group, or an algorithm that a run has chosen, must not outlive it."""
    yield
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def fit(experiment: Experiment, device: torch.device) -> Callable[..., dict[str, Any]]:
    """Train the small experiment on the device; returns its last checkpoint."""

    def train(*options: str, name: str = "tiny") -> dict[str, Any]:
        accelerator = "gpu" if device.type == "cuda" else "cpu"
        main(
            ["fit", "--config", str(experiment()), "--name", name, "--trainer.accelerator", accelerator,
             "--trainer.max_epochs", "1", *options]
        )  # fmt: skip
        loaded: dict[str, Any] = torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
        return loaded

    return train


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision", "bf16-mixed", "--model.channels_last", "true", "--trainer.benchmark", "true"],
        ["--trainer.precision", "16-mixed"],
        ["--model.overrides.MODEL.RESNETS.NORM", "SyncBN", "--trainer.strategy", "ddp"],
        ["--model.overrides.MODEL.RESNETS.NORM", "GN", "--model.overrides.MODEL.SEM_SEG_HEAD.NORM", "GN",
         "--model.overrides.MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "--trainer.strategy", "sharded"],
        ["--trainer.callbacks+=lightning_seg.callbacks.EMA", "--trainer.callbacks.decay=0.9"],
    ],
    ids=["bf16, channels-last", "fp16", "SyncBN, DDP of one device", "FSDP2 of one device", "EMA"],
)  # fmt: skip
def test_a_run_ends_with_finite_weights(
    fit: Callable[..., dict[str, Any]], device: torch.device, options: list[str]
) -> None:
    if device.type == "cpu" and "16-mixed" in options:
        pytest.skip("gradients are scaled on a GPU alone")
    if device.type == "cpu" and "--trainer.strategy" in options:
        options = [*options, "--trainer.devices", "1"]
    loaded = fit(*options)
    assert loaded["global_step"] == 3
    assert all(value.isfinite().all() for value in loaded["state_dict"].values())


def test_a_stopped_run_goes_on_to_the_bit(fit: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped twice, under deterministic algorithms, which the losses of this project have a form for."""
    options = [*LOW_MEMORY, "--trainer.deterministic", "true", "--ckpt_path", "last"]
    expected = fit(*options, name="alone")
    for step, number, status in ((1, "SIGTERM", 143), (2, "SIGUSR1", 75)):
        stop = SignalIn(step, rank=0, number=number)
        with monkeypatch.context() as patch:
            patch.setattr(SegmentationModule, "configure_callbacks", lambda self, stop=stop: [stop])
            with pytest.raises(SystemExit) as caught:
                fit(*options)
        assert caught.value.code == status
    found = fit(*options)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)


class Waits(pl.Callback):
    """Has torch warn of what makes the CPU wait for the GPU, from the third step on."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step >= 2:
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


def test_no_step_waits_for_the_gpu(
    fit: Callable[..., dict[str, Any]], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that watches a run, but for the steps that are logged."""
    if device.type == "cpu":
        pytest.skip("a CPU waits for itself")
    where: list[str] = []

    def note(message: Any, *_: Any, **__: Any) -> None:
        if "called a synchronizing" in str(message):  # not that the mode is a prototype
            where.append("".join(traceback.format_stack(limit=12)))

    monkeypatch.setattr(SegmentationModule, "configure_callbacks", lambda self: [Waits()])
    monkeypatch.setattr(warnings, "showwarning", note)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        fit("--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1000", *LOW_MEMORY)
    assert not where, f"{len(where)} times, first here:\n{where[0]}"


def test_no_image_of_a_validation_waits_for_the_gpu(device: torch.device) -> None:
    """An error says which operation does; its stack says where."""
    if device.type == "cpu":
        pytest.skip("a CPU waits for itself")
    module = make().to(device).eval()
    batches = [on(device, make_batch([(64, 96)], seed=seed)) for seed in range(4)]
    for batch in batches:
        batch[0]["truth"] = batch[0]["sem_seg"]
    module.validation_step(batches[0], 0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            for index, batch in enumerate(batches[1:]):
                module.validation_step(batch, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
