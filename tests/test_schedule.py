"""The schedule of a training is that of the steps, batches and figures that it really has."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from lightning_seg.cli import main
from lightning_seg.launching.plan import count_steps
from lightning_seg.module import SegmentationModule
from tests.conftest import TINY_OVERRIDES
from tests.models.samples import make_batch

Experiment = Callable[..., Path]
DETECTRON2 = {"SOLVER.BASE_LR": 0.1, "SOLVER.WARMUP_ITERS": 0, "SOLVER.STEPS": [5], "SOLVER.MAX_ITER": 10}
"""A schedule that falls to a tenth halfway."""


def logged(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def last_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return errors[-1]


def test_a_plateau_is_stepped_on_the_figure_that_it_names(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = ReduceLROnPlateau.step

    def spy(self: Any, metrics: Any, epoch: Any = None) -> None:
        seen.append(metrics)
        step(self, metrics, epoch)

    monkeypatch.setattr(ReduceLROnPlateau, "step", spy)
    main([
        "fit", "--config", str(experiment()), "--model.lr_scheduler", "pytorch_lightning.cli.ReduceLROnPlateau",
        "--model.lr_scheduler.monitor", "val/mIoU", "--model.lr_scheduler.mode", "max",
        "--model.lr_scheduler.threshold", "10", "--model.lr_scheduler.patience", "0",
    ])  # fmt: skip
    run = tmp_path / "runs/tiny/version_0"
    assert seen == logged(run, "val/mIoU")
    assert len(seen) == 2
    assert logged(run, "lr/0") == pytest.approx([0.02] * 6, rel=1e-6)  # the first value is the best so far


def test_what_contradicts_a_figure_is_refused_before_training(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment())
    stopping = ("--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.monitor", "val/mIoU")
    assert last_error(capsys, "fit", "--config", config, *stopping).endswith("better the higher: set mode: max")
    plateau = ("--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau")
    assert "there is none: give data.val" in last_error(
        capsys, "fit", "--config", config, *plateau, "--trainer.limit_val_batches", "0"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("batches", "epochs", "factors", "steps"),
    [
        (5, 3, {0: 1, 1: 2}, 5 + 3 + 3),
        (5, 3, {0: 4}, 6),
        (5, 1, {0: 1, 1: 2}, 5),
        (5, 4, {0: 1, 2: 5}, 5 + 5 + 1 + 1),
        (0, 4, {0: 1}, 0),
    ],
)
def test_steps_under_accumulation_that_changes(batches: int, epochs: int, factors: dict[int, int], steps: int) -> None:
    assert count_steps(batches, epochs, factors) == steps


def test_the_schedule_ends_with_an_accumulation_that_changes(tmp_path: Path) -> None:
    rates = []

    class Module(SegmentationModule):
        def optimizer_step(self, *arguments: Any, **options: Any) -> None:
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            super().optimizer_step(*arguments, **options)

    module = Module(
        "Misc/semantic_R_50_FPN_1x.yaml", list("abcde"), overrides={**TINY_OVERRIDES, **DETECTRON2}, weights=""
    )
    changing = GradientAccumulationScheduler({1: 2})
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=4, logger=False, enable_checkpointing=False, callbacks=[changing],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader([make_batch([(32, 32), (32, 32)])] * 3, batch_size=None))  # type: ignore[arg-type]
    expected = [0.1] * 4 + [0.01] * 5  # 3 + 2 + 2 + 2 steps; half of 9 is rounded down, as by Detectron2
    assert len(rates) == 3 * 1 + 3 * 2
    assert [round(rate, 6) for rate in rates] == expected


def test_a_found_batch_is_that_of_schedule_and_rate(experiment: Experiment, tmp_path: Path) -> None:
    config = experiment(batch_size=1)
    main(["fit", "--config", str(config), "--name", "first", "--trainer.max_steps", "1"])
    finder = (
        "{class_path: BatchSizeFinder, init_args: {mode: binsearch, max_trials: 1, steps_per_trial: 1, init_val: 3}}"
    )
    overrides = [item for key, value in DETECTRON2.items() for item in (f"--model.overrides.{key}", str(value))]
    main([
        "fit", "--config", str(config), "--model.weights", "runs/first/version_0/checkpoints/last.ckpt",
        "--trainer.callbacks+", finder, "--model.scale_lr", "true", *overrides,
        "--model.overrides.SOLVER.IMS_PER_BATCH", "4", "--trainer.max_epochs", "2",
    ])  # fmt: skip
    rates = logged(tmp_path / "runs/tiny/version_0", "lr/0")  # of batches of 2, not 1: 6 steps, half of the rate
    assert rates == pytest.approx([0.05] * 3 + [0.005] * 3, rel=1e-6)


def test_what_no_single_batch_describes_is_refused_or_said(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment())
    changing = ("--trainer.callbacks+", "{class_path: GradientAccumulationScheduler, init_args: {scheduling: {1: 2}}}")
    assert "changes it (1 from epoch 0 on, 2 from epoch 1 on): set the rate itself" in last_error(
        capsys, "fit", "--config", config, *changing, "--model.scale_lr", "true"
    )
    assert "accumulate_grad_batches is 2, but GradientAccumulationScheduler sets it epoch by epoch" in last_error(
        capsys, "fit", "--config", config, *changing, "--trainer.accumulate_grad_batches", "2"
    )
    for callback, row in (
        (changing[1], "3 in the first epoch of 2 epochs: 5 in total"),
        ("BatchSizeFinder", "unknown until BatchSizeFinder has found a batch"),
    ):
        with pytest.raises(SystemExit):
            main(["fit", "--config", config, "--dry_run", "--trainer.callbacks+", callback])
        assert row in capsys.readouterr().out
