"""What a training that goes on may change of its settings: one case for each row of the table in docs/resuming.md."""

import csv
import math
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_seg.callbacks.stop_signals import StopSignals
from lightning_seg.cli import main
from lightning_seg.data import SegmentationDataModule
from tests.conftest import CLASSES, TINY_OVERRIDES, folder

pytestmark = pytest.mark.runs

OWN = {
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
    "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 6}},
}
PLATEAU = {**OWN, "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}}
RUNS: dict[str, dict[str, Any]] = {"solver": {}, "own": OWN, "plateau": PLATEAU, "scaled": {"scale_lr": True}}
EXPONENTIAL = '{"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}}'
FLIP = '[{"class_path": "albumentations.HorizontalFlip"}]'
LOSSES = "lightning_seg.losses."
STOPPED_AT = 4
"""Of 6 steps, after one of the three batches of the second epoch."""


@pytest.fixture(scope="module")
def stopped(scenes: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, Path]:
    """Folders with the configuration and the stopped run of each of ``RUNS``, and of one that ended its first epoch."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationDataModule, "take_quick_look", lambda _: None)
        for name in [*RUNS, "between"]:
            made[name] = tmp_path_factory.mktemp(name)
            model = {
                "config": "Misc/semantic_R_50_FPN_1x.yaml", "weights": "", "overrides": TINY_OVERRIDES,
                **RUNS.get(name, {}),
            }  # fmt: skip
            data = {
                "root": str(scenes), "classes": CLASSES, "train": folder("train"), "val": folder("val"),
                "batch_size": 2, "num_workers": 0,
            }  # fmt: skip
            trainer = {
                "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "num_sanity_val_steps": 0,
                "limit_val_batches": 1 if name == "plateau" else 0, "enable_progress_bar": False,
                "enable_model_summary": False,
            }  # fmt: skip
            config = {"seed_everything": 3, "model": model, "data": data, "trainer": trainer}
            (made[name] / "c.yaml").write_text(yaml.safe_dump(config))
            patch.chdir(made[name])
            at = 3 if name == "between" else STOPPED_AT
            patch.setattr(StopSignals, "agreed", lambda _, trainer, at=at: 75 * (trainer.global_step == at))
            with pytest.raises(SystemExit, match="75"):
                main(["fit", "--config", "c.yaml"])
    return made


@pytest.fixture
def go_on(
    stopped: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., tuple[int, str]]:  # fmt: skip
    """Goes on with a copy of a run; returns the exit status and what was said."""
    monkeypatch.setattr(SegmentationDataModule, "take_quick_look", lambda _: None)

    def run(name: str, *arguments: str) -> tuple[int, str]:
        shutil.copytree(stopped[name], tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        status = 0
        with caplog.at_level("INFO"):
            try:
                main(["fit", "--config", "c.yaml", "--ckpt_path", "last", *arguments])
            except SystemExit as stop:
                status = int(stop.code or 0)
        return status, caplog.text + "".join(capsys.readouterr())

    return run


def rates() -> list[float]:
    """The rate of each step of the run here, from the first."""
    with Path("runs/c/version_0/metrics.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["lr/0"])) for row in csv.DictReader(file) if row.get("lr/0")]
    return [rate for _, rate in sorted(rows)]


def last() -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load("runs/c/version_0/checkpoints/last.ckpt", weights_only=True)
    return checkpoint


def solver(step: int, steps: int = 6, base: float = 0.02) -> float:
    """WarmupMultiStepLR of the test's config, written for 10 steps, at one of so many, from Detectron2's formula."""
    milestones, warm_up = [round(at * steps / 10) for at in (6, 8)], round(3 * steps / 10)
    factor = 0.1 ** sum(step >= at for at in milestones)
    alpha = step / warm_up if step < warm_up else 1.0
    return base * factor * (0.001 * (1 - alpha) + alpha)


def cosine(step: int, steps: int = 6, base: float = 0.001) -> float:
    return base * (1 + math.cos(math.pi * step / steps)) / 2


@pytest.mark.parametrize(
    ("name", "settings", "said", "rate"),
    [
        ("solver", ["--model.overrides.SOLVER.BASE_LR=0.04"], "learning rate 0.02 → 0.04", partial(solver, base=0.04)),
        ("own", ["--model.optimizer.lr=0.002"], "with learning rate 0.001 → 0.002\n", partial(cosine, base=0.002)),
        ("own", ["--model.lr_scheduler.T_max=5"], "with schedule T_max 6 → 5\n", partial(cosine, steps=5)),
        ("own", [f"--model.lr_scheduler={EXPONENTIAL}"], "CosineAnnealingLR → ExponentialLR", lambda k: 0.001 * 0.5**k),
        ("solver", ["--trainer.max_epochs=3"], "optimiser steps 6 → 9", partial(solver, steps=9)),
        ("solver", ["--trainer.max_steps=5"], "optimiser steps 6 → 5", partial(solver, steps=5)),
        ("scaled", ["--trainer.accumulate_grad_batches=3"], "0.0025 → 0.0075", partial(solver, steps=5, base=0.0075)),
    ],
)
def test_rates_are_those_of_the_new_settings_at_the_step_that_was_reached(
    go_on: Callable[..., tuple[int, str]],
    name: str,
    settings: list[str],
    said: str,
    rate: Callable[[int], float],
) -> None:
    status, text = go_on(name, *settings)
    assert status == 0, text
    assert "Goes on after 4 steps with " in text
    assert said in text
    assert rates()[4:] == pytest.approx([rate(step) for step in range(4, last()["global_step"])], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "said", "steps"),
    [
        ("solver", [], None, 6),
        ("solver", ["--model.overrides.SOLVER.WEIGHT_DECAY=0.001"], "weight_decay 0.0001 → 0.001", 6),
        ("solver", ["--data.batch_size=3"], "data.batch_size 2 → 3", 5),
        ("solver", ["--trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches 1 → 2", 6),
        ("solver", ["--trainer.precision=bf16-mixed"], "trainer.precision None → bf16-mixed", 6),
        ("solver", ["--trainer.gradient_clip_val=1"], "trainer.gradient_clip_val None → 1", 6),
        ("solver", ["--model.overrides.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT=2.0"], "SEM_SEG_HEAD.LOSS_WEIGHT None → 2", 6),
        ("solver", [f"--data.train_transforms={FLIP}"], "data.train_transforms None → ", 6),
        ("solver", [f"--model.criterion={LOSSES}CrossEntropy"], "model.criterion.class_path None → lightning_seg", 6),
        ("solver", ["--model.inference=Augmented"], "model.inference.class_path None → lightning_seg", 6),
        ("solver", ["--data.val.skip=[0001*]"], "data.val.init_args.skip [] → ['0001*']", 6),
        ("between", ["--data.train.skip=[0001*]"], "data.train.init_args.skip [] → ['0001*']", 5),
        ("between", ["--data.sampler=rare_class"], "data.sampler shuffle → rare_class", 6),
    ],
)
def test_what_holds_from_here_on_is_said(
    go_on: Callable[..., tuple[int, str]], name: str, settings: list[str], said: str | None, steps: int
) -> None:
    status, text = go_on(name, *settings)
    assert status == 0, text
    assert ("other settings; from here on: " in text) == (said is not None)
    assert (said or "") in text
    assert last()["global_step"] == steps
    decays = {group["weight_decay"] for group in last()["optimizer_states"][0]["param_groups"]}
    assert decays == {0.0, 0.001 if "WEIGHT_DECAY" in str(settings) else 0.0001}


def test_a_dry_run_shows_what_would_be_other_than_before(go_on: Callable[..., tuple[int, str]]) -> None:
    status, text = go_on("solver", "--trainer.devices=2", "--data.batch_size=1", "--dry_run")
    assert status == 0, text
    assert re.search(r"other than before +│ trainer.devices auto → 2", text)
    assert re.search(r"other than before +│ data.batch_size 2 → 1", text)


ANEW = "model.weights in place of ckpt_path"


REFUSED = [
    ("solver", ["--model.optimizer=torch.optim.AdamW"], "the checkpoint's optimiser is SGD, here it is AdamW"),
    ("solver", ["--seed_everything=4"], "the checkpoint's run has the seed 3, here it is 4"),
    ("solver", ["--data.train.skip=[0001*]"], "an epoch, whose order depends on the samples of data.train"),
    ("solver", ["--model.overrides.MODEL.BACKBONE.FREEZE_AT=2"], "trains 99 tensors in 2 groups, here it would be"),
    ("solver", ["--model.backbone_lr_factor=0.1"], "the checkpoint's optimiser has model.backbone_lr_factor 1"),
    ("solver", ["--model.decay_norms=false"], "optimiser has model.decay_norms True, here it is False"),
    ("solver", ["--model.overrides.MODEL.RESNETS.DEPTH=34"], "the checkpoint was made for another model"),
    ("solver", ["--data.sampler=rare_class"], "an epoch, whose order depends on data.sampler"),
    ("solver", ["--model.weights=detectron2://X"], "model.weights is detectron2://X, in the checkpoint's run it was"),
    ("solver", ["--model.fresh_head=true"], "model.fresh_head is True, in the checkpoint's run it was False"),
    ("solver", ["--trainer.max_epochs=1"], "the checkpoint is in epoch 2, but trainer.max_epochs is 1"),
    ("solver", ["--trainer.max_steps=3"], "the checkpoint is of step 4, but trainer.max_steps is 3"),
    ("plateau", ["--model.optimizer.lr=0.002"], "ReduceLROnPlateau depends on all validations so far"),
    ("plateau", ["--model.lr_scheduler.patience=3"], "(schedule patience 10 → 3)"),
    ("plateau", [f"--model.lr_scheduler={EXPONENTIAL}"], "ReduceLROnPlateau → ExponentialLR"),
]
"""Rows of the table; a dry run finds the first three in its own way."""


@pytest.mark.parametrize(
    ("name", "settings", "why", "dry"), [(*row, []) for row in REFUSED] + [(*row, ["--dry_run"]) for row in REFUSED[:3]]
)
def test_what_a_checkpoint_does_not_fit_is_refused_before_training(
    go_on: Callable[..., tuple[int, str]], name: str, settings: list[str], why: str, dry: list[str]
) -> None:
    status, text = go_on(name, *settings, *dry)
    assert status == 1
    error = text[text.index("error: ") :]
    assert why in error
    assert ANEW in error or "start anew with it" in error or "validate" in error or "config.yaml of its run" in error
    assert last()["global_step"] == STOPPED_AT
