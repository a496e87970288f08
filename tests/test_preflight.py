"""A dry run says what would be trained and all that is wrong; a fit refuses the same before it starts."""

import csv
import json
import math
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from PIL import Image
from torch.optim import lr_scheduler as schedules

from lightning_seg.cli import SegmentationCLI, main
from lightning_seg.errors import ConfigError
from lightning_seg.launching.plan import Plan, make_plan, resolve_processes
from lightning_seg.launching.starters import Processes
from lightning_seg.module import SegmentationModule
from lightning_seg.preflight.problems import folder_problem, schedule_problems, weights_problem
from lightning_seg.preflight.table import describe_loggers
from tests.conftest import CLASSES, TINY_OVERRIDES

Experiment = Callable[..., Path]
TRAINER: dict[str, Any] = {
    "accelerator": "cpu", "devices": 1, "num_nodes": 1, "max_epochs": 3, "max_steps": -1, "accumulate_grad_batches": 1,
    "limit_train_batches": None, "overfit_batches": 0.0, "fast_dev_run": False,
}  # fmt: skip


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--dry_run", *arguments])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    return int(caught.value.code or 0), output.out, errors


def test_callbacks_that_cannot_work_here_are_refused_by_name(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remedies = {"LearningRateFinder": "configs/sweeps/learning_rate.yaml", "BackboneFinetuning": "backbone_lr_factor"}
    config = str(experiment())
    for name, remedy in remedies.items():
        status, _, errors = dry_run(capsys, "--config", config, "--trainer.callbacks+", name)
        assert (status, len(errors)) == (1, 1)
        assert f"error: trainer.callbacks: {name} " in errors[0]
        assert remedy in errors[0]
        callback = getattr(pl.callbacks, name)()
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[callback])
        module = SegmentationModule("Misc/semantic_R_50_FPN_1x.yaml", CLASSES, 255, TINY_OVERRIDES, "")
        with pytest.raises(ConfigError, match=rf"{name} .*{remedy}"):
            trainer.fit(module, [])
    assert not (tmp_path / "runs").exists()


def test_a_batch_size_is_found_with_random_weights(experiment: Experiment, tmp_path: Path) -> None:
    finder = [f"--trainer.callbacks{option}" for option in ("+=BatchSizeFinder", ".max_trials=1", ".init_val=3")]
    command = SegmentationCLI(["fit", "--config", str(experiment()), "--trainer.max_epochs", "1", *finder])
    assert command.datamodule.batch_size == 3
    run = tmp_path / "runs/tiny/version_0"
    assert not list(run.glob(".scale_batch_size*"))
    assert torch.load(run / "checkpoints/last.ckpt")["global_step"] == 2  # of 6 images


def test_weights_may_carry_detectron2s_query(tmp_path: Path) -> None:
    (tmp_path / "f.pth").touch()
    for answer in ("True", "False"):
        assert weights_problem(f"{tmp_path}/f.pth?matching_heuristics={answer}") is None
    assert "do not exist" in str(weights_problem(f"{tmp_path}/g.pth?matching_heuristics=True"))


def test_dry_run_prints_the_plan_and_leaves_nothing(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "init", lambda: pytest.fail("CUDA is not asked for"))
    code, out, errors = dry_run(
        capsys, "--config", str(experiment(batch_size=1)), "--trainer.accelerator", "gpu", "--trainer.devices", "2",
        "--trainer.accumulate_grad_batches", "2", "--trainer.precision", "bf16-mixed",
    )  # fmt: skip
    assert (code, errors) == (0, [])
    for text in (
        "2 devices × 1 nodes × batch 1 × accumulation 2 = 4",
        "6 samples",
        "2 per epoch × 2 epochs: 4 in total",
        "0.02, SGD, the config's schedule",
        "runs/tiny/version_0: new, can be written",
        "bf16-mixed",
        "metrics.csv",
        "SemSegFPNHead, 0.02 million",
        "FPN on ResNet, 11.20 million",
        "11.22 million",
        "6: sky, ground, hill, house, tree and 1 more",
        "the head's own",
        "3 samples",
        "Lightning, on this machine",
    ):
        assert text in out, out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_dry_run_shows_the_rates_by_depth(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(experiment())
    _, out, _ = dry_run(capsys, "--config", config, "--model.backbone_lr_factor", "0.1")
    assert "0.002 and 0.02, SGD" in out
    _, out, _ = dry_run(capsys, "--config", config, "--model.layer_decay", "0.5")
    assert "3.90625e-05 to 0.02, SGD" in out


def test_a_scaled_rate_is_shown_and_said_and_trained(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    arguments = [
        "--config", str(experiment(batch_size=1)), "--model.scale_lr", "true", "--trainer.accumulate_grad_batches", "2",
        "--model.overrides.SOLVER.IMS_PER_BATCH", "8", "--model.overrides.SOLVER.WARMUP_ITERS", "0",
        "--trainer.max_epochs", "1",
    ]  # fmt: skip
    _, out, _ = dry_run(capsys, *arguments)
    said = "the config's × global batch 2 / SOLVER.IMS_PER_BATCH 8"
    assert f"0.005 ({said}), SGD" in out
    with caplog.at_level("INFO"):
        main(["fit", *arguments])
    assert [record.getMessage() for record in caplog.records].count(f"Learning rate: {said}") == 1
    with (tmp_path / "runs/tiny/version_0/metrics.csv").open(newline="") as file:
        logged = [float(row["lr/0"]) for row in csv.DictReader(file) if row["lr/0"]]
    assert logged[0] == pytest.approx(0.02 * 2 / 8, rel=1e-6)


def test_every_mistake_at_once(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "3")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "3")
    (tmp_path / "file").write_text("")
    (tmp_path / "torn.ckpt").write_bytes(b"PK torn")
    schedule = ["--model.lr_scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR"]
    arguments = [
        "--config", str(experiment(batch_size=7)), "--trainer.default_root_dir", str(tmp_path / "file" / "runs"),
        *schedule, "--model.lr_scheduler.T_max", "1000",
    ]  # fmt: skip
    code, _, errors = dry_run(capsys, *arguments, "--model.weights", "none.pth")
    assert code == 1
    code, _, others = dry_run(capsys, *arguments, "--ckpt_path", str(tmp_path / "torn.ckpt"))
    for text in (
        "SLURM_NTASKS is 3, but trainer.devices 1 × trainer.num_nodes 1 = 1 processes",
        f"{tmp_path / 'file'} is a file",
        "data.train has 6 samples, fewer than one batch of 7",
        "CosineAnnealingLR(T_max=1000) is made for 1000 steps, but the run has 0",
        "weights none.pth do not exist",
        f"checkpoint {tmp_path / 'torn.ckpt'} cannot be read: it is damaged",
    ):
        assert any(text in error for error in errors + others), (errors, others)
    code, _, errors = dry_run(capsys, "--config", str(tmp_path / "tiny.yaml"), "--model.config", "none.yaml")
    assert code == 1
    assert any("model.config 'none.yaml' is neither a file" in error for error in errors)


def test_the_table_shows_the_loss_and_what_is_frozen(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = ["--model.criterion", "lightning_seg.losses.Dice", "--model.auxiliary_stage", "res4"]
    frozen = ["--model.overrides.MODEL.BACKBONE.FREEZE_AT", "1"]
    code, out, errors = dry_run(capsys, "--config", str(experiment(val=None)), *loss, *frozen)
    assert "Dice, and 0.4 × that of a head on res4" in out
    assert "11.20 million, 11.19 million trained" in out
    assert "inference       │ Whole " in out
    assert "none: no figure says which checkpoint is the best" in out
    assert code == 1
    assert len(errors) == 1
    assert "starts from random weights, but MODEL.BACKBONE.FREEZE_AT 1 would keep them random" in errors[0]


def change_a_mask(root: Path) -> None:
    path = next((root / "train/masks").iterdir())
    Image.fromarray(np.full_like(np.asarray(Image.open(path)), 77)).save(path)


def take_validation(root: Path) -> None:
    shutil.rmtree(root / "val")


def cut_an_image(root: Path) -> None:
    path = next((root / "val/images").iterdir())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def colour_the_masks(root: Path) -> None:
    for path in (root / "train/masks").iterdir():
        Image.open(path).convert("RGB").save(path)


TWICE = ["--trainer.callbacks+", "lightning_seg.callbacks.EMA"] * 2
AFFINE = {"class_path": "albumentations.Affine", "init_args": {"rotate": 20, "mask_interpolation": 1}}


@pytest.mark.parametrize(
    ("spoil", "data", "arguments", "messages"),
    [
        (change_a_mask, {}, [], ["has class id 77 in 3072 pixels"]),
        (take_validation, {}, [], ["val/images does not exist"]),
        (cut_an_image, {}, [], ["cannot be read"]),
        (colour_the_masks, {}, [], ["say which class each stands for with data.palette"]),
        (
            None,
            {},
            ["--model.weights", "detectron2://none.pkl"],
            ["weights detectron2://none.pkl cannot be downloaded"],
        ),
        (
            take_validation,
            {"train_transforms": [AFFINE], "eval_transforms": [AFFINE]},
            ["--model.weights", "none.pth"],
            [
                "data.train_transforms: Affine has mask_interpolation: 1",
                "data.eval_transforms: Affine has mask_interpolation: 1",
                "val/images does not exist",
                "weights none.pth do not exist",
            ],
        ),
    ],
)
def test_dry_run_finds_what_fit_finds(
    experiment: Experiment,
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None] | None,
    data: dict[str, Any],
    arguments: list[str],
    messages: list[str],
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network here")))
    shutil.copytree(scenes, tmp_path / "scenes")
    if spoil is not None:
        spoil(tmp_path / "scenes")
    config = ["--config", str(experiment(root="scenes", **data)), *arguments]
    code, _, errors = dry_run(capsys, *config)
    assert code == 1
    assert len(errors) == len(messages), errors
    for message in messages:
        assert any(message in error for error in errors), errors
    with pytest.raises(SystemExit) as caught:
        main(["fit", *config])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert any(message in said for message in messages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes", "tiny.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.batch_size", "7"], "data.train has 6 samples, fewer than one batch of 7"),
        (["--trainer.default_root_dir", "tiny.yaml"], "tiny.yaml is a file"),
        (["--trainer.limit_train_batches", "0"], "trainer.limit_train_batches 0 leaves none of the 3 batches"),
        (
            ["--trainer.limit_train_batches", "0.01"],
            "limit_train_batches 0.01 leaves none of the 3 batches",
        ),
        (["--trainer.max_steps", "0"], "trainer.max_steps is 0, but must be at least 1, or -1: no limit"),
        (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches is 0, but must be at least 1"),
        (["--trainer.check_val_every_n_epoch", "0"], "trainer.check_val_every_n_epoch is 0, but must be at least 1"),
        (["--trainer.val_check_interval", "9"], "trainer.val_check_interval is 9, but an epoch has 3 batches"),
        (["--trainer.devices", "0"], "trainer.devices 0 × trainer.num_nodes 1 = 0 processes: both must be at least 1"),
        (["--trainer.barebones", "true"], "trainer.barebones turns off figures, files and checkpoints"),
        (["--seed_everything", "-1"], "seed_everything is -1, but must be from 0 to 4294967295"),
        (["--trainer.strategy", "foo"], "trainer: You selected an invalid strategy name"),
        (["--trainer.profiler", "foo"], "trainer: When passing string value for the `profiler` parameter"),
        (["--trainer.max_time", "foo"], "trainer: `Timer(duration='foo')` is not a valid duration"),
        (TWICE, "trainer: Found more than one stateful callback of type `EMA`"),
        (
            ["--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.monitor", "val/miou"],
            "EarlyStopping monitors 'val/miou', which is never logged; did you mean val/mIoU",
        ),
        (["--model.overrides.SOLVER.WARMUP_ITERS", "30"], "SOLVER.WARMUP_ITERS is 30 of SOLVER.MAX_ITER 10 steps"),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "500"], "asks for 500 processes, but this machine has"),
        (["--model.layer_decay", "1.5"], "model.layer_decay is 1.5, but must be above 0 and at most 1"),
        (
            [
                "--model.backbone_lr_factor",
                "0.1",
                "--model.lr_scheduler",
                "torch.optim.lr_scheduler.OneCycleLR",
                "--model.lr_scheduler.max_lr",
                "0.1",
                "--model.lr_scheduler.total_steps",
                "6",
            ],
            "model.lr_scheduler: OneCycleLR sets the rate of every parameter group itself",
        ),
        (["--trainer.num_nodes", "2"], "MASTER_ADDR and MASTER_PORT not set"),
        (["--trainer.strategy", "fsdp"], "trainer.strategy fsdp writes checkpoints of its own kind, and waits"),
        (["--trainer.strategy", "deepspeed_stage_2"], "deepspeed_stage_2 writes checkpoints of its own kind"),
        (
            ["--trainer.strategy", '{"class_path": "pytorch_lightning.strategies.ModelParallelStrategy"}'],
            "strategies.ModelParallelStrategy writes checkpoints of its own kind",
        ),
        (["--trainer.strategy", "sharded", "--model.compile", "true"], "sharded does not work with model.compile"),
    ],
)
def test_a_fit_refuses_the_same(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    config = experiment()
    for command in (["fit"], ["fit", "--dry_run"]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--config", str(config), *arguments])
        assert caught.value.code == 1
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


ENVIRONMENT = "lightning_fabric.plugins.environments.LightningEnvironment"
OWN = {"class_path": "pytorch_lightning.strategies.DDPStrategy", "init_args": {"cluster_environment": ENVIRONMENT}}


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [
        (["--trainer.plugins", "lightning_fabric.plugins.TorchCheckpointIO"], True),
        (["--trainer.plugins", ENVIRONMENT], False),
        (["--trainer.strategy", "pytorch_lightning.strategies.DDPStrategy"], True),
        (["--trainer.strategy", json.dumps(OWN)], False),
    ],
)
def test_only_a_cluster_environment_has_rules_of_its_own(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], arguments: list[str], checked: bool
) -> None:
    _, _, errors = dry_run(capsys, "--config", str(experiment(batch_size=1)), "--trainer.num_nodes", "2", *arguments)
    assert any("MASTER_ADDR and MASTER_PORT not set" in error for error in errors) == checked


def test_dry_run_belongs_to_fit(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate", "--config", str(experiment()), "--dry_run"])
    assert caught.value.code == 2


def test_missing_data_is_a_line(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = dry_run(capsys, "--config", str(experiment()), "--data.root", "nowhere")
    assert code == 1
    assert "data.root nowhere does not exist" in errors[0]


def test_what_two_checks_find_is_told_once(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    """The quick look and the count of samples."""
    options = ["--data.train.init_args.mask_name", "{stem}_ids.png"]
    code, _, errors = dry_run(capsys, "--config", str(experiment()), *options)
    assert code == 1
    assert [error for error in errors if "have no mask named '{stem}_ids.png'" in error] == errors[:1]


READERS = """
from lightning_seg.data import Folder

LISTED, PREPARED = [], []

class Counted(Folder):
    def samples(self, root):
        LISTED.append((self.images, bool(PREPARED)))
        return super().samples(root)

class Written(Counted):
    def prepare(self, root):
        PREPARED.append(self.images)
"""


@pytest.mark.parametrize("kind", ["Counted", "Written", "Split"])
def test_samples_are_listed_once_and_after_they_are_written(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "own_readers.py").write_text(READERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_readers", raising=False)
    train = {"class_path": f"own_readers.{kind}", "init_args": {"images": "train/images", "masks": "train/masks"}}
    if kind == "Split":
        train["class_path"] = "own_readers.Written"
        split = {"of": train, "part": "train", "fractions": [1.0, 0.0, 0.0]}
        train = {"class_path": "lightning_seg.data.Split", "init_args": split}
    main(["fit", "--config", str(experiment(train=train)), "--trainer.max_steps", "1"])
    listed = sys.modules["own_readers"].LISTED
    assert listed == [("train/images", kind != "Counted")]


@pytest.mark.parametrize(
    ("changes", "samples", "per_epoch", "total"),
    [
        ({}, 21, 2, 6),
        ({"accumulate_grad_batches": 3}, 84, 4, 12),
        ({"max_steps": 4}, 21, 2, 4),
        ({"max_epochs": None}, 21, 2, 2000),
        ({"max_epochs": None, "max_steps": 50}, 21, 2, 50),
        ({"max_epochs": -1}, 21, 2, math.inf),
        ({"limit_train_batches": 0.5}, 21, 1, 3),
        ({"limit_train_batches": 1}, 21, 1, 3),
        ({"fast_dev_run": True}, 21, 1, 1),
        ({}, None, None, None),
        ({"max_steps": 7}, None, None, 7),
    ],
)
def test_plan(changes: dict[str, Any], samples: int | None, per_epoch: int | None, total: float | None) -> None:
    plan = make_plan(Namespace(**{**TRAINER, **changes}), Processes(2), batch_size=4, samples=samples)
    assert (plan.steps_per_epoch, plan.total_steps) == (per_epoch, total)
    assert plan.global_batch == 8 * plan.accumulate


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus", "expected"),
    [
        ("cpu", "auto", 4, (1, "cpu")),
        ("auto", "auto", 0, (1, "cpu")),
        ("auto", "auto", 4, (4, "gpu")),
        ("gpu", -1, 4, (4, "gpu")),
        ("gpu", "0,3", 4, (2, "gpu")),
        ("gpu", [1], 4, (1, "gpu")),
        ("cpu", "3", 0, (3, "cpu")),
        ("tpu", 8, 0, (8, "")),
    ],
)
def test_devices(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, devices: Any, gpus: int, expected: tuple[int, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    found = resolve_processes(Namespace(**{**TRAINER, "accelerator": accelerator, "devices": devices}))
    assert (found.devices, found.kind) == expected


def test_schedules_of_ones_own() -> None:
    def problems(make: Callable[[torch.optim.Optimizer], Any], steps: float = 100) -> list[str]:
        return schedule_problems(make(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)), steps)

    assert problems(lambda sgd: schedules.CosineAnnealingLR(sgd, 100)) == []
    assert problems(lambda sgd: schedules.CosineAnnealingLR(sgd, 101), math.inf) == []
    assert "CosineAnnealingLR(T_max=101)" in problems(lambda sgd: schedules.CosineAnnealingLR(sgd, 101))[0]
    assert "LinearLR(total_iters=200)" in problems(lambda sgd: schedules.LinearLR(sgd, total_iters=200))[0]
    assert "milestones=[60, 120]" in problems(lambda sgd: schedules.MultiStepLR(sgd, [60, 120]))[0]
    assert "would fail there" in problems(lambda sgd: schedules.OneCycleLR(sgd, 0.1, total_steps=50))[0]

    def warm_up_then_poly(sgd: torch.optim.Optimizer, poly: int) -> Any:
        parts = [schedules.LinearLR(sgd, total_iters=10), schedules.PolynomialLR(sgd, total_iters=poly)]
        return schedules.SequentialLR(sgd, parts, milestones=[10])

    assert problems(lambda sgd: warm_up_then_poly(sgd, 90)) == []
    assert "is made for 110 steps" in problems(lambda sgd: warm_up_then_poly(sgd, 100))[0]
    assert problems(schedules.ReduceLROnPlateau) == []


def test_loggers_by_name() -> None:
    wandb = Namespace(class_path="pytorch_lightning.loggers.WandbLogger", init_args=Namespace(offline=False))
    assert describe_loggers(True, {}) == "metrics.csv"
    assert describe_loggers(False, {}) == "none"
    assert describe_loggers(wandb, {}) == "metrics.csv, W&B online"
    assert describe_loggers([wandb], {"WANDB_MODE": "offline"}) == "metrics.csv, W&B offline"
    wandb.init_args.offline = True
    assert describe_loggers(wandb, {}) == "metrics.csv, W&B offline"


def test_folder(tmp_path: Path) -> None:
    assert folder_problem(tmp_path / "a" / "b") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "is a file" in str(folder_problem(tmp_path / "file" / "b"))
    if Path("/proc/self").exists():  # takes no files, not even root's
        assert "cannot be written" in str(folder_problem(Path("/proc/runs")))


def test_plan_without_limits() -> None:
    assert Plan(Processes(1), 2, 1, 10).total_steps == math.inf


@pytest.mark.parametrize(
    ("samples", "accumulate", "max_steps", "interval"),
    [(300, 1, math.inf, 50), (98, 1, math.inf, 49), (98, 7, math.inf, 7), (98, 1, 5, 5), (None, 1, math.inf, 50)],
)
def test_figures_are_logged_in_each_epoch(
    samples: int | None, accumulate: int, max_steps: float, interval: int
) -> None:
    assert Plan(Processes(1), 2, accumulate, samples, max_steps=max_steps).log_interval == interval
