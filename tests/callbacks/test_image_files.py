"""``images.csv`` and ``images.npz`` hold what was counted of each image, on any number of processes; so do figures."""

import csv
import io
import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torchmetrics import Metric

from lightning_seg.callbacks.image_files import _names, write_arrays, write_table
from lightning_seg.cli import main
from lightning_seg.metrics import AbsentClasses, Evaluation, ImageFigures, Report
from lightning_seg.metrics.images import encode_image
from lightning_seg.metrics.slices import slices_of
from lightning_seg.structures import Sample
from tests.conftest import CLASSES
from tests.metrics.reports import images_of
from tests.processes import run_processes

Experiment = Callable[..., Path]

SIZES = [(5, 7), (8, 3), (6, 6), (1, 1), (9, 4)]
"""In blocks of 12 × 12 pixels."""
NAMES = ["a", "b", "c"]
SHIFTS = ["day", "night", "day", "", "night"]
"""Values of a column of a manifest."""


def drawn(position: int) -> tuple[Tensor, Tensor, Tensor]:
    """A prediction, (H, W) uint8, how sure it is, (H, W) float32, and the truth: all kinds of errors are in them."""
    generator = torch.Generator().manual_seed(position)
    size = SIZES[position]
    truth, other = (torch.randint(0, 3, size, generator=generator).to(torch.uint8) for _ in range(2))
    prediction = torch.where(torch.rand(size, generator=generator) < 0.3, other, truth)
    prediction, truth = (blocks.repeat_interleave(12, 0).repeat_interleave(12, 1) for blocks in (prediction, truth))
    truth[8::24, 8::24] = 0
    prediction[2:5, 2:5] = (truth[2:5, 2:5] + 1) % 3
    if position == 2:
        truth.fill_(255)
    return prediction, torch.rand(truth.shape, generator=generator), truth


def evaluated(group: Any, positions: Iterable[int]) -> Report:
    """Images of unequal sizes, the third of them without a counted pixel, as a process with some of them has them."""
    evaluation = Evaluation(NAMES, 255, "mmseg", error_budget=True, calibration=True)
    for metric in evaluation.modules():
        if isinstance(metric, Metric):
            metric.process_group = group
    for position in positions:
        prediction, confidence, truth = drawn(position)
        evaluation.update(prediction, truth, position, torch.tensor(0.1) * position, confidence)
    report = evaluation.report("test")
    assert report.images.matrices().sum(0).tolist() == report.matrix.tolist()
    return report


def written(images: ImageFigures, names: list[str], class_names: list[str] = NAMES) -> list[bytes]:
    files = []
    for write in (write_table, write_arrays):
        file = io.BytesIO()
        write(file, names, class_names, images)
        files.append(file.getvalue())
    return files


def _evaluate(rank: int, folder: Path) -> None:
    for world_size, sharing in ((1, 1), (2, 2), (3, 3), (3, 2)):  # in the last group, one process has no image
        group = dist.new_group(list(range(world_size)))
        if rank < world_size:
            report = evaluated(group, range(rank, len(SIZES), sharing) if rank < sharing else ())
            figures = {**report.as_json(), "slices": slices_of(report.images, {"shift": SHIFTS})}
            files = written(report.images, [f"{place}" for place in range(len(SIZES))])
            torch.save((files, json.dumps(figures)), folder / f"{world_size}-{sharing}-{rank}.pt")


@pytest.mark.runs
def test_the_same_bytes_on_any_number_of_processes(tmp_path: Path) -> None:
    run_processes(3, _evaluate, tmp_path)
    found = [torch.load(path) for path in sorted(tmp_path.glob("*.pt"))]
    assert len(found) == 1 + 2 + 3 + 3
    assert all(one == found[0] for one in found)
    (table, _), figures = found[0][0], json.loads(found[0][1])
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert [int(row["pixels"]) for row in rows] == [144 * blocks for blocks in (35, 24, 0, 1, 36)]
    assert {name for name, value in rows[2].items() if not value} == {"mIoU", "pAcc", "IoU/a", "IoU/b", "IoU/c"}
    assert [float(row["loss"]) for row in rows] == [(torch.tensor(0.1) * place).item() for place in range(5)]
    errors, counted = figures["errors"], 144 * (35 + 24 + 1 + 36)
    assert min(errors["pixels"].values()) > 0
    assert sum(errors[part] for part in [*errors["pixels"], "interaction"]) == pytest.approx(1 - figures["mIoU"])
    assert sum(one["count"] for one in figures["calibration"]["bins"]) == counted
    slices = figures["slices"]["shift"]
    assert {value: one["images"] for value, one in slices.items()} == {"(missing)": 1, "day": 2, "night": 2}
    assert sum(one["pixels"] for one in slices.values()) == counted


def test_names_may_be_no_text_and_classes_may_hold_commas() -> None:
    names, class_names = ["caf\udce9", 'a,"b'], ["sky, blue", "road"]
    images = images_of([torch.tensor([[3, 1], [0, 0]]), torch.tensor([[0, 0], [0, 70000]])], [math.nan, math.inf])
    table, arrays = written(images, names, class_names)
    rows = list(csv.reader(table.decode("utf-8", "surrogateescape").splitlines()))
    assert rows == [
        ["name", "mIoU", "pAcc", "pixels", "loss", "IoU/sky, blue", "IoU/road"],
        [names[0], "0.75", "0.75", "4", "", "0.75", ""],
        [names[1], "1.0", "1.0", "70000", "inf", "", "1.0"],
    ]
    with np.load(io.BytesIO(arrays)) as found:
        assert found["names"].tolist() == names
        assert found["class_names"].tolist() == class_names
        assert np.isnan(found["losses"][0])
        assert found["matrices"].dtype == np.uint32


def test_matrices_are_written_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [torch.full((2, 2), place) for place in range(5)]
    monkeypatch.setattr("lightning_seg.callbacks.image_files._COUNTS_AT_ONCE", 8)
    with np.load(io.BytesIO(written(images_of(matrices), list("abcde"), ["x", "y"])[1])) as found:
        assert found["matrices"].tolist() == [matrix.tolist() for matrix in matrices]


def test_names_are_those_of_the_samples_that_were_evaluated() -> None:
    """As under ``limit_test_batches`` on two processes, which leaves gaps."""
    matrix = torch.ones(2, 2, dtype=torch.int64)
    images = ImageFigures.decode(torch.cat([encode_image(place, 0.0, matrix) for place in (3, 1)]), 2, "detectron2")
    samples = [Sample(name, Path(name)) for name in "abcd"]
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(datasets={"test": SimpleNamespace(samples=samples)}))
    assert _names(trainer, "test", images) == ["b", "d"]
    trainer.datamodule = None
    assert _names(trainer, "test", images) == ["1", "3"]


@pytest.fixture
def unequal(scenes: Path, tmp_path: Path) -> Path:
    """The scenes, with one image cut and the mask of another empty."""
    root = shutil.copytree(scenes, tmp_path / "unequal")
    for kind in ("images", "masks"):
        paths = sorted((root / "val" / kind).iterdir())
        Image.open(paths[0]).crop((0, 0, 40, 33)).save(paths[0])
        if kind == "masks":
            Image.fromarray(np.full_like(np.asarray(Image.open(paths[1])), 255)).save(paths[1])
    return root


def recomputed(arrays: Any, split: str, absent_classes: AbsentClasses) -> dict[str, Any]:
    matrices = torch.from_numpy(arrays["matrices"].astype(np.int64))
    images = images_of(list(matrices), arrays["losses"].tolist(), absent_classes)
    report = Report(split, arrays["class_names"].tolist(), matrices.sum(0), images, absent_classes)
    return report.as_json()


@pytest.mark.runs
def test_every_figure_of_a_run_can_be_computed_again(
    experiment: Experiment, unequal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment(root=str(unequal)))
    main(["fit", "--config", config, "--trainer.max_epochs", "1"])
    runs = tmp_path / "runs/tiny"
    assert not list(runs.glob("version_0/images.*"))
    masks = sorted((unequal / "val/masks").iterdir())
    capsys.readouterr()
    last, few = ["--config", config, "--ckpt_path", "last"], ["--trainer.limit_test_batches", "2"]
    for version, (command, split, names) in enumerate(
        [
            (["validate", *last, "--model.absent_classes", "mmseg"], "val", [path.stem for path in masks]),
            (["test", *last, "--data.batch_size", "1", *few], "test", [path.stem for path in masks[:2]]),
        ],
        1,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(command)
        run = runs / f"version_{version}"
        assert f"runs/tiny/version_{version}/images.csv" in capsys.readouterr().out
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics.pop("weights")["source"] == "checkpoint"
        with np.load(run / "images.npz") as arrays:
            errors = metrics.pop("errors")  # which need label maps
            assert sum(errors["pixels"].values()) == round((1 - metrics["pAcc"]) * metrics["num_valid_pixels"])
            assert recomputed(arrays, split, metrics["absent_classes"]) == metrics
            assert arrays["names"].tolist() == names
            assert arrays["class_names"].tolist() == CLASSES
            losses = arrays["losses"]
            for name, matrix in zip(names, arrays["matrices"], strict=True):
                truth = np.asarray(Image.open(unequal / f"val/masks/{name}.png"))
                assert matrix.sum(1).tolist() == np.bincount(truth[truth != 255], minlength=6).tolist()
        rows = list(csv.DictReader((run / "images.csv").open()))
        assert [row["name"] for row in rows] == names
        assert [float(row["loss"]) for row in rows] == losses.tolist()
        assert np.mean([float(row["mIoU"]) for row in rows if row["mIoU"]]) == metrics["mIoU_per_image"]
        assert (rows[1]["mIoU"], rows[1]["pixels"]) == ("", "0")
        with (run / "metrics.csv").open() as file:
            (logged,) = csv.DictReader(file)
        assert float(logged[f"{split}/loss"]) == pytest.approx(losses.mean(), rel=1e-12)
