"""Averaged weights: what they are, what evaluates with them, and that a run goes on from those that were trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_seg.callbacks import EMA
from lightning_seg.checkpoints.matching import averaging_problems
from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.module import SegmentationModule
from tests.conftest import TINY_OVERRIDES
from tests.models.networks import SWIN, detectron2
from tests.models.samples import make_batch
from tests.training import fit, make

Experiment = Callable[..., Path]
AVERAGED = ["--trainer.callbacks+=lightning_seg.callbacks.EMA", "--trainer.callbacks.decay=0.9"]
CONSTANT = ["--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "4"]
"""A schedule that does not depend on the length of the run."""

State = dict[str, torch.Tensor]

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]


def copy(module: torch.nn.Module) -> State:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def checkpoint(name: str = "last", version: int = 0) -> dict[str, Any]:
    path = f"runs/tiny/version_{version}/checkpoints/{name}.ckpt"
    return dict(torch.load(path, weights_only=True))


class Watch(pl.Callback):
    """Keeps the weights after each step, and those of each batch of validations and tests."""

    def __init__(self) -> None:
        self.trained: list[State] = []
        self.validated: list[State] = []
        self.tested: list[State] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.trained.append(copy(pl_module))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(copy(pl_module))

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.tested.append(copy(pl_module))


def average(states: list[State], decay: float) -> State:
    """Beginning with the first; what is no floating-point number is the last."""
    found = dict(states[0])
    for state in states[1:]:
        for name, value in state.items():
            found[name] = decay * found[name] + (1 - decay) * value if value.is_floating_point() else value
    return found


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Of every training that the command line starts."""
    watch = Watch()
    monkeypatch.setattr(SegmentationModule, "configure_callbacks", lambda self: [watch])
    return watch


def test_validation_and_checkpoints_have_the_average(experiment: Experiment, watch: Watch) -> None:
    main(["fit", "--config", str(experiment()), *AVERAGED])
    assert len(watch.trained) == 6
    expected = [average(watch.trained[:steps], 0.9) for steps in (3, 6)]
    for found, wanted in zip((watch.validated[0], watch.validated[-1]), expected, strict=True):
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    last, best = checkpoint(), checkpoint("best")
    assert_equal(last["state_dict"], watch.validated[-1])
    assert_equal(last["current_model_state"], watch.trained[-1])
    assert any(not torch.equal(watch.trained[-1][name], value) for name, value in last["state_dict"].items())
    assert_equal(best["state_dict"], watch.validated[-1 if best["global_step"] == 6 else 0])

    main(["test", "--config", "tiny.yaml", "--ckpt_path", "best", *AVERAGED])
    assert_equal(watch.tested[0], best["state_dict"])


def test_an_ended_run_goes_on_from_the_trained_weights(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without validation, last.ckpt is written when Lightning has put the average into the model."""
    arguments = ["fit", "--config", str(experiment(val=None)), "--ckpt_path", "last", *AVERAGED, *CONSTANT]
    main([*arguments, "--trainer.max_epochs", "1"])
    main([*arguments, "--trainer.max_epochs", "2"])
    interrupted = checkpoint()
    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    main(["fit", "--config", str(tmp_path / "tiny.yaml"), *AVERAGED, *CONSTANT, "--trainer.max_epochs", "2"])
    alone = checkpoint()
    assert interrupted["global_step"] == alone["global_step"] == 6
    for name in ("state_dict", "current_model_state"):
        assert_equal(interrupted[name], alone[name])


def test_an_average_has_the_precision_of_the_weights(experiment: Experiment) -> None:
    main(["fit", "--config", str(experiment()), "--trainer.precision", "64-true", *AVERAGED])
    for part in ("state_dict", "current_model_state"):
        weights = checkpoint()[part].values()
        assert {tensor.dtype for tensor in weights if tensor.is_floating_point()} == {torch.float64}


def test_before_the_first_update_weights_are_as_they_are(experiment: Experiment, watch: Watch) -> None:
    main(["fit", "--config", str(experiment()), *AVERAGED, "--trainer.callbacks.update_starting_at_step=100"])
    last = checkpoint()
    for state in (last["state_dict"], last["current_model_state"], watch.validated[-1]):
        assert_equal(state, watch.trained[-1])


def test_resuming_without_the_average_is_refused(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--config", str(experiment()), "--trainer.max_epochs", "1"]
    main([*arguments, *AVERAGED])
    before = (tmp_path / "runs/tiny/version_0/config.yaml").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*arguments, "--ckpt_path", "last", "--model.layer_decay", "0.9"])
    errors = capsys.readouterr().err
    assert "error: the checkpoint is of a training with averaged weights: add lightning_seg.callbacks.EMA" in errors
    assert "error: the checkpoint's optimiser has model.layer_decay 1, here it is 0.9" in errors
    assert (tmp_path / "runs/tiny/version_0/config.yaml").read_text() == before
    main([*arguments, "--model.weights", "runs/tiny/version_0/checkpoints/last.ckpt"])
    assert "current_model_state" not in checkpoint(version=1)


def test_a_trainer_of_ones_own_refuses_the_same(tmp_path: Path) -> None:
    batches = [make_batch([(32, 32), (32, 32)])]
    trainer = fit(make(), batches, tmp_path, callbacks=[EMA()])
    trainer.save_checkpoint(tmp_path / "averaged.ckpt")
    loader = torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    other = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"averaged weights: add lightning_seg\.callbacks\.EMA"):
        other.fit(make(), loader, ckpt_path=tmp_path / "averaged.ckpt", weights_only=True)
    with pytest.raises(ConfigError, match="rounds integer buffers down"):
        fit(make(), batches, tmp_path, callbacks=[pl.callbacks.EMAWeightAveraging()])


def test_lightnings_own_is_refused_before_a_run(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    lightnings = ["--trainer.callbacks+=pytorch_lightning.callbacks.EMAWeightAveraging"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(experiment()), *lightnings])
    assert "error: trainer.callbacks: pytorch_lightning's EMAWeightAveraging rounds" in capsys.readouterr().err
    assert averaging_problems([EMA(), pl.callbacks.WeightAveraging()]) == []


@pytest.mark.parametrize("own", [True, False])
def test_index_buffers_and_constants_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    """Lightning's own class is here to show that the check can fail."""
    monkeypatch.setattr("lightning_seg.module.averaging_problems", lambda *_: [])
    swin = {**TINY_OVERRIDES, **detectron2("build_swin_fpn_backbone", "SWIN", **SWIN)}
    module = make(swin)
    kinds = ("relative_position_index", "pixel_mean", "pixel_std")
    before = {name: buffer.clone() for name, buffer in module.named_buffers() if name.endswith(kinds)}
    callback = EMA(decay=0.9) if own else pl.callbacks.EMAWeightAveraging(decay=0.9)
    fit(module, [make_batch([(32, 32), (32, 32)], seed=step) for step in range(5)], tmp_path, callbacks=[callback])
    changed = [name for name, value in before.items() if not torch.equal(module.get_buffer(name), value)]
    assert len(before) == 7
    assert bool(changed) is not own
