"""Learning: a training from random weights for as long as there is time, and what it reaches."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sections.table import Row, Settings

REPOSITORY = Path(__file__).parents[2]
PUBLISHED = 0.669
"""Test mIoU of FC-DenseNet103 on CamVid's 11 classes from scratch (Jégou et al. 2017, arXiv:1611.09326, table 1)."""

START_SECONDS, TEST_SECONDS = 25, 25
"""For importing, listing and the first steps of a run, and for its test."""

CAMVID = [
    "--data.train_transforms",
    json.dumps(
        [
            {"class_path": "lightning_seg.data.RandomScaleCrop",
             "init_args": {"height": 352, "width": 480, "scale_limits": [0.75, 2.0]}},
            {"class_path": "albumentations.HorizontalFlip"},
            {"class_path": "albumentations.ColorJitter", "init_args": {"p": 0.5}},
        ]
    ),
    "--data.batch_size", "16", "--data.cache", "ram", "--trainer.precision", "bf16-mixed",
    "--trainer.callbacks+=lightning_seg.callbacks.EMA", "--trainer.callbacks.decay=0.998",
]  # fmt: skip
TINY = ["--data.train.init_args.count", "8", "--data.val.init_args.count", "2", "--data.num_workers", "0"]


def run(settings: Settings) -> Iterator[Row]:
    """A short run says how fast the machine is, and so how many epochs there is time for."""
    if settings.left < START_SECONDS + TEST_SECONDS and not settings.tiny:
        yield Row("learning", no_time=True)
        return
    runs = settings.folder / "learning"
    runs.mkdir()
    if settings.camvid is None:
        name, batch, samples, own = "quickstart", 8, 240, TINY if settings.tiny else []
    else:
        name, batch, samples = "camvid_semantic_fpn_r50", 16, 367
        own = [*CAMVID, "--data.root", str(settings.camvid.resolve())]
    command = [
        "--config", str(REPOSITORY / f"configs/{name}.yaml"), "--trainer.logger", "true", "--trainer.devices", "1",
        "--trainer.accelerator", "gpu" if settings.device == "cuda" else "cpu", *own,
    ]  # fmt: skip
    epochs = 1
    if not settings.tiny:
        pilot = _train(runs, "pilot", command, "--trainer.max_epochs", "3", "--trainer.limit_val_batches", "0",
                       "--trainer.log_every_n_steps", "10")  # fmt: skip
        with (pilot / "metrics.csv").open(newline="") as file:
            rates = [float(row["perf/images_per_s"]) for row in csv.DictReader(file) if row.get("perf/images_per_s")]
        seconds = settings.left - START_SECONDS - TEST_SECONDS
        epochs = max(1, int(0.8 * seconds * rates[-1] / (samples // batch * batch)))  # the rest is for validations
    every = max(1, epochs // 5)
    epochs = epochs // every * every  # so that the last one is validated
    trained = _train(
        runs, "run", command, "--trainer.max_epochs", str(epochs), "--trainer.check_val_every_n_epoch", str(every)
    )
    best = max(_column(trained, "val/mIoU"))
    what = f"{name}, {epochs} epochs"
    yield Row(f"{what}: val mIoU", best, ratio=best, note=f"at the end {_column(trained, 'val/mIoU')[-1]:.3f}")
    if settings.camvid is not None:
        _command(runs, "test", *command, "--name", "test", "--ckpt_path", str(trained / "checkpoints/best.ckpt"))
        metrics: dict[str, Any] = json.loads((runs / "runs/test/version_0/metrics.json").read_text())
        yield Row(f"{what}: test mIoU", metrics["mIoU"], PUBLISHED, metrics["mIoU"], PUBLISHED)


def _train(runs: Path, name: str, command: list[str], *options: str) -> Path:
    _command(runs, "fit", *command, "--name", name, *options)
    return runs / f"runs/{name}/version_0"


def _command(runs: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "train.py"), *arguments],
        cwd=runs, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"train.py {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-1500:]}")


def _column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
