"""A run on a GPU goes on to the bit, and its steps and validations wait for nothing."""

import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_seg.module import SegmentationModule
from tests.gpu.devices import on
from tests.models.samples import make_batch
from tests.ranks import SignalIn
from tests.training import make

LOW_MEMORY = ["--model.criterion", "lightning_seg.losses.CrossEntropy", "--model.criterion.low_memory", "true"]


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
