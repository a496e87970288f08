"""Runs of a network that classifies masks: what commands give of it is what they give of any."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import lightning_seg
from lightning_seg.cli import main
from lightning_seg.export import main as export
from tests.conftest import CLASSES, train_py
from tests.models.networks import EOMT, MASK2FORMER

KINDS = {"Mask2FormerHead": MASK2FORMER, "EoMT": EOMT}

of_each = pytest.mark.parametrize("trained", KINDS, indirect=True)


@pytest.fixture
def trained(experiment: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    """The run folder of two steps, in the working directory of the test."""
    path = experiment()
    config = yaml.safe_load(path.read_text())
    config["model"]["overrides"] |= KINDS[getattr(request, "param", "Mask2FormerHead")]
    path.write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(path), "--trainer.max_steps", "2", "--trainer.logger", "false"])
    return Path("runs/tiny/version_0")


def figures(run: Path) -> dict[str, object]:
    found = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in found.items() if "loss" not in name}


@of_each
def test_files_of_predict_and_load_have_the_figures_of_validate(trained: Path, scenes: Path) -> None:
    """Pixel by pixel, with windows too; the log has the losses under their published names."""
    windows = {"class_path": "lightning_seg.inference.SlidingWindow", "init_args": {"window": [32, 40]}}
    for place, way in enumerate(("null", json.dumps(windows))):
        main(["validate", "--ckpt_path", str(trained), "--model.inference", way])
        main(["predict", "--ckpt_path", str(trained), "--data.predict", str(scenes / "val/images"),
              "--model.inference", way, "--output", f"out{place}"])  # fmt: skip
        matrix = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
        for file in sorted(Path(f"out{place}/masks").glob("*.png")):
            truth, found = np.asarray(Image.open(scenes / "val/masks" / file.name)), np.asarray(Image.open(file))
            np.add.at(matrix, (truth[truth != 255], found[truth != 255]), 1)
            if place == 0:
                image = next((scenes / "val/images").glob(f"{file.stem}.*"))
                result = lightning_seg.load(trained, device="cpu")(image)
                assert np.array_equal(result.mask, found)
                assert result.probabilities.sum(0) == pytest.approx(1, abs=1e-5)
        present = matrix.sum(1) > 0
        ious = np.diag(matrix)[present] / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))[present]
        assert figures(trained.parent / f"version_{place + 1}")["mIoU"] == float(np.mean(ious))


@of_each
def test_one_two_and_three_processes_count_the_same_integers(trained: Path) -> None:
    """Of each image and of all: 3 images on 1 process, then 2 and 1, then one on each."""
    results = []
    for processes in (1, 2, 3):
        done = train_py(
            "validate", "--ckpt_path", str(trained), f"--trainer.devices={processes}",
            "--trainer.strategy", "ddp" if processes > 1 else "auto", "--data.eval_batch_size", "2",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run = trained.parent / f"version_{processes}"
        metrics = figures(run)
        with np.load(run / "images.npz") as images:
            matrices, names = images["matrices"], images["names"].tolist()
        assert np.issubdtype(matrices.dtype, np.integer)
        assert matrices.sum(0, dtype=np.int64).tolist() == metrics["confusion_matrix"]
        assert matrices.sum(dtype=np.int64) == metrics["num_valid_pixels"]
        results.append((matrices.tolist(), names, metrics, rows(run)))
    assert len(results[0][0]) == 3
    assert results[0] == results[1] == results[2]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("m.onnx", "m.pt2")), "m.pth"]
)
def test_exports_what_gives_the_same(name: str, trained: Path, scenes: Path) -> None:
    command = ["--ckpt_path", str(trained), "--images", str(scenes / "val/images"), "--output"]
    assert export([*command, name]) == 0
    assert Path(name).is_file()
    certificate = json.loads(Path(f"{name}.parity.json").read_text())
    assert certificate["passed"]
    assert certificate["differing_no_ties"] == 0
