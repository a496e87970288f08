"""Two processes train what one does: the same losses and weights."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_seg.cli import main
from tests.conftest import train_py, write_pair
from tests.models.networks import EOMT, MASK2FORMER
from tests.ranks import STEPS, losses_of

Experiment = Callable[..., Path]

OVERRIDES = {
    "MODEL.RESNETS.NORM": "GN",  # a norm over the batch would be one over each process's part of it
    "MODEL.FPN.NORM": "LN",
    "MODEL.SEM_SEG_HEAD.NORM": "LN",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3"],  # p4 to p6 have no use: frozen, or DDP would wait for them
    "SOLVER.BASE_LR": 0.002,
}


KINDS = {
    "Mask2FormerHead": MASK2FORMER | {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3", "p4", "p5"]},
    "EoMT": EOMT,
}


def train(
    config: Path,
    pairs: Path,
    devices: int,
    batch_size: int,
    accumulate: int,
    *options: str,
    overrides: Mapping[str, Any] = OVERRIDES,
) -> tuple[list[float], dict]:  # type: ignore[type-arg]
    """Losses of the steps and the last weights."""
    name = "x".join(map(str, (devices, batch_size, accumulate, *options)))
    ranks = config.parent / name
    listener = {"class_path": "tests.ranks.RankFile", "init_args": {"folder": str(ranks)}}
    done = train_py(
        "fit", "--config", str(config), "--name", name, "--data.root", str(pairs), "--data.val", "null",
        *(f"--model.overrides.{key}={json.dumps(value)}" for key, value in overrides.items()),
        f"--trainer.devices={devices}", f"--data.batch_size={batch_size}",
        f"--trainer.accumulate_grad_batches={accumulate}", f"--trainer.max_steps={STEPS}",
        "--trainer.strategy", "ddp" if devices > 1 else "auto", "--trainer.callbacks", json.dumps([listener]),
        *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "find_unused_parameters" not in done.stderr
    losses = losses_of(ranks, devices)
    checkpoint = torch.load(config.parent / f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    return losses, checkpoint["state_dict"]


def test_two_processes_equal_one(experiment: Experiment, pairs: Path) -> None:
    config = experiment()
    losses, weights = train(config, pairs, devices=1, batch_size=8, accumulate=1)
    assert len(set(losses)) == STEPS
    for batch_size, accumulate, *options in ((4, 1), (2, 2), (4, 1, "--model.activation_checkpointing=true")):
        others, found = train(config, pairs, 2, batch_size, accumulate, *options)
        assert others == pytest.approx(losses, rel=1e-5)
        assert found.keys() == weights.keys()
        for name, expected in weights.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    """16 pairs of 1 to 6 classes, so that processes have other numbers of masks."""
    for index in range(16):
        blocks = np.random.default_rng(index).integers(0, 1 + index % 6, (6, 8), dtype=np.uint8)
        write_pair(tmp_path / "unequal/train", f"{index:02d}", np.kron(blocks, np.ones((8, 8), np.uint8)))
    return tmp_path / "unequal"


@pytest.mark.parametrize("kind", ["Mask2FormerHead", pytest.param("EoMT", marks=pytest.mark.slow)])
def test_two_processes_train_masks_as_one(experiment: Experiment, unequal: Path, kind: str) -> None:
    """The number of masks is that of all processes. Each process has its own mean over queries, as published, which is
    the mean over all where queries without a mask weigh as much as others."""
    overrides = OVERRIDES | KINDS[kind] | {"MODEL.MASK_FORMER.NO_OBJECT_WEIGHT": 1.0}
    config = experiment()
    same_points = "--trainer.callbacks+", "tests.ranks.SamePoints"
    losses, weights = train(config, unequal, 1, 8, 1, *same_points, overrides=overrides)
    others, found = train(config, unequal, 2, 4, 1, *same_points, overrides=overrides)
    assert len(set(losses)) == STEPS
    assert others == pytest.approx(losses, rel=1e-5)
    for name, expected in weights.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_an_error_of_the_first_process_ends_the_others(experiment: Experiment) -> None:
    """Else they would hold the pipe to this test open, and their GPUs."""
    done = train_py(
        "fit", "--config", str(experiment(batch_size=1)), "--trainer.devices", "2",
        "--trainer.callbacks+", "tests.ranks.FirstFails", timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: the disk is gone" in done.stderr


def test_validation_is_that_of_the_checkpoint(experiment: Experiment) -> None:
    """BatchNorm's statistics differ between processes while they train, and so do their numbers of batches here."""
    config = str(experiment())
    done = train_py("fit", "--config", config, "--trainer.devices", "2", "--data.num_workers", "0")
    assert done.returncode == 0, done.stderr
    run = Path("runs/tiny/version_0")
    with (run / "metrics.csv").open(newline="") as file:
        trained = [row for row in csv.DictReader(file) if row["val/mIoU"]][-1]
    main(["validate", "--config", config, "--ckpt_path", str(run / "checkpoints/last.ckpt")])
    figures = json.loads(Path("runs/tiny/version_1/metrics.json").read_text())
    for name in ("mIoU", "pAcc", "fwIoU"):
        assert float(trained[f"val/{name}"]) == pytest.approx(figures[name], rel=1e-12)
