"""An exported file predicts what the checkpoint predicts, with the transforms and windows that are not in it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import lightning_seg
from lightning_seg.cli import main
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import CheckpointError
from lightning_seg.exporting.exporter import _metadata
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.loading import Trained, load_trained
from lightning_seg.exporting.metadata import Metadata
from lightning_seg.exporting.running import Output
from lightning_seg.exporting.tracing import free_copy, trace
from lightning_seg.exporting.wish import Wish
from lightning_seg.exporting.writing import write_onnx, write_pt2
from lightning_seg.inference import WHOLE, SlidingWindow
from lightning_seg.inference.temperature import tempered
from lightning_seg.running.exported import ExportedModule
from tests.conftest import CLASSES
from tests.predictors import noise, trained_by_hand

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]  # exports networks: some seconds each

IMAGES = [noise(40, 56), noise(33, 71), noise(120, 50)]
RESIZED = [A.LongestMaxSize(max_size=96), A.PadIfNeeded(96, 96)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    palette = {"sky": "#4682b4"}
    path = trained_by_hand(folder, scenes, eval_transforms=RESIZED, palette=palette)
    checkpoint = torch.load(path, weights_only=True)
    for name, value in checkpoint["state_dict"].items():
        if ".predictor." in name:
            value.mul_(0.05)  # logits that differ by hundreds leave probabilities of 0
    torch.save(checkpoint, path)
    return load_trained(str(path))


def stand_in(trained: Trained, monkeypatch: pytest.MonkeyPatch, *, probabilities: bool, **changes: Any) -> None:
    """Put what a file says of itself, with changes, and its graph as it is before it is traced, in a file's place."""
    temperature = trained.module.temperature
    graph = Graph(free_copy(trained.module.segmentor), probabilities=probabilities, temperature=temperature)

    class File:
        def __init__(self, path: Path, device: str) -> None:
            wish = Wish(path, probabilities=probabilities)
            self.metadata = replace(Metadata.from_json(_metadata(trained, wish, None).to_json()), **changes)

        @torch.no_grad()
        def __call__(self, image: Tensor) -> Output:
            found = graph(image)
            return Output(found[0], found[1] if probabilities else None)

    monkeypatch.setattr("lightning_seg.trained.file_network.ExportedNetwork", File)


def assert_alike(file: Path, checkpoint: Path) -> None:
    ours, theirs = lightning_seg.load(file, device="cpu"), lightning_seg.load(checkpoint, device="cpu")
    assert ours.palette == theirs.palette
    assert ours.class_names == theirs.class_names
    for one, other in zip(ours(IMAGES), theirs(IMAGES), strict=True):
        best = np.sort(other.probabilities, axis=0)
        certain = best[-1] - best[-2] > 1e-4
        assert certain.mean() > 0.9
        assert np.array_equal(one.mask[certain], other.mask[certain])
        assert one.mask.dtype == other.mask.dtype
        assert np.abs(one.probabilities - other.probabilities).max() < 1e-3


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_file_gives_what_the_checkpoint_gives(trained: Trained, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{suffix}"
    program = trace(Graph(free_copy(trained.module.segmentor), probabilities=True))
    write = write_pt2 if suffix == ".pt2" else write_onnx
    write(program, file, _metadata(trained, Wish(file, probabilities=True), None))
    assert_alike(file, trained.checkpoint)


@pytest.mark.runs
def test_the_command_predict_takes_a_file(
    trained: Trained, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program = trace(Graph(free_copy(trained.module.segmentor), probabilities=True))
    write_pt2(program, Path("m.pt2"), _metadata(trained, Wish(Path("m.pt2"), probabilities=True), None))
    given = ["--data.predict", str(scenes / "val/images"), "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    for _ in range(2):
        main(["predict", "--ckpt_path", "m.pt2", *given, "--save", "masks", "probabilities", "--output", "out"])
    results = lightning_seg.load(trained.checkpoint, device="cpu")(sorted((scenes / "val/images").iterdir()))
    for result in results:
        with Image.open(f"out/masks/{result.name}.png") as image:
            found = np.asarray(image)
            assert image.getpalette()[:3] == list(result.palette[0])  # type: ignore[index]
        best = np.sort(result.probabilities, axis=0)
        certain = best[-1] - best[-2] > 1e-4
        assert np.array_equal(found[certain], result.mask[certain])
        probabilities = np.load(f"out/probabilities/{result.name}.npz")["probabilities"]
        assert np.abs(probabilities - result.probabilities).max() < 2e-3
    before = Path("out/masks/0000.png").stat().st_mtime_ns
    main(["predict", "--ckpt_path", "m.pt2", *given, "--output", "out", "--save", "masks"])
    assert Path("out/masks/0000.png").stat().st_mtime_ns == before
    Path("no.onnx").write_bytes(b"no graph")
    for command, message in (
        (
            ["test", "--ckpt_path", "m.pt2"],
            "test needs a checkpoint, but m.pt2 is an exported file: predict and lightning_",
        ),
        (["predict", "--ckpt_path", "gone.pt2", *given], "gone.pt2 does not exist"),
        (["predict", "--ckpt_path", "no.onnx", *given], "no.onnx"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 1
        assert capsys.readouterr().err.rpartition("error: ")[2].partition(message)[1]


@pytest.mark.parametrize("temperature", [0.7, 2.5])
@pytest.mark.parametrize("inference", [None, SlidingWindow([32, 48], overlap=0.5)])
def test_a_temperature_is_in_the_file_and_applied_once(
    inference: SlidingWindow | None, temperature: float, scenes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = trained_by_hand(tmp_path, scenes, {"inference": inference})
    checkpoint = torch.load(path, weights_only=True)
    for name, value in checkpoint["state_dict"].items():
        if ".predictor." in name:
            value.mul_(0.05)
    torch.save({**checkpoint, "temperature": temperature}, path)
    trained = load_trained(str(path))
    stand_in(trained, monkeypatch, probabilities=True)
    assert_alike(tmp_path / "model.onnx", path)
    network = lightning_seg.load(tmp_path / "model.onnx", device="cpu")._network
    assert network.network.metadata.temperature == temperature  # type: ignore[attr-defined]
    image = torch.from_numpy(IMAGES[0]).permute(2, 0, 1)
    shown = network.network(image[None]).probabilities[0]  # type: ignore[attr-defined]
    trained.module.temperature = 1.0
    trained.module.inference = WHOLE
    [plain] = trained.module.probabilities([{"image": image}])
    assert torch.allclose(shown, tempered(plain, temperature), atol=1e-3)  # logits of hundreds


def test_windows_go_over_a_file(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    path = trained_by_hand(tmp_path, scenes, {"inference": SlidingWindow([32, 48], overlap=0.5)})
    trained = load_trained(str(path))
    stand_in(trained, monkeypatch, probabilities=True)
    assert_alike(tmp_path / "model.onnx", path)
    stand_in(trained, monkeypatch, probabilities=False)
    with pytest.raises(
        CheckpointError, match=r"model.inference needs probabilities, .*model.onnx gives label maps alone"
    ):
        lightning_seg.load(tmp_path / "model.onnx", device="cpu")


def test_label_maps_alone(trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Padding and flips are undone exactly; a resize takes the nearest pixels, and says so once."""
    stand_in(trained, monkeypatch, probabilities=False)
    predictor, whole = (lightning_seg.load(path, device="cpu") for path in (tmp_path / "m.pt2", trained.checkpoint))
    with pytest.warns(UserWarning, match="m.pt2 gives label maps alone, which are resized") as told:
        results = predictor(IMAGES)
    assert len(told) == 1
    for one, other in zip(results, whole(IMAGES), strict=True):
        assert one.mask.shape == other.mask.shape
        assert (one.mask == other.mask).mean() > 0.95
    with pytest.raises(CheckpointError, match=r"Result.probabilities needs probabilities, but exported file .*m.pt2"):
        _ = results[0].probabilities


def test_a_format_that_needs_probabilities_is_refused_before_anything_is_written(
    trained: Trained, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(trained, monkeypatch, probabilities=False)
    model, data = ExportedModule([]), SegmentationDataModule(CLASSES, predict=str(scenes / "val/images"))
    model.open(tmp_path / "m.pt2", data, on_cpu=True)
    with pytest.raises(CheckpointError, match=r"--save probabilities needs probabilities, but exported file .*m.pt2"):
        model.network.require_probabilities("--save probabilities")


@pytest.mark.parametrize("described", [True, False])
def test_padding_and_flips_are_undone_exactly(
    described: bool, scenes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the checkpoint's own record or, in older files, by the run's configuration."""
    transforms = [A.HorizontalFlip(p=1), A.PadIfNeeded(128, 128)]
    path = trained_by_hand(tmp_path, scenes, eval_transforms=transforms)
    configured = (
        {"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 1}},
        {"class_path": "albumentations.PadIfNeeded", "init_args": {"min_height": 128, "min_width": 128}},
    )
    changes = {} if described else {"evaluation": None, "eval_transforms": configured}
    stand_in(load_trained(str(path)), monkeypatch, probabilities=False, **changes)
    results = lightning_seg.load(tmp_path / "m.pt2", device="cpu")(IMAGES)
    for one, other in zip(results, lightning_seg.load(path, device="cpu")(IMAGES), strict=True):
        assert (one.mask == other.mask).mean() > 0.9999


def test_what_a_file_needs_and_is_not_there_is_named(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for changes, message in (
        ({"inference": {"class_path": "gone.Windows", "init_args": {}}}, "inference gone.Windows is not found"),
        ({"evaluation": {**(trained.evaluation or {}), "imports": ["own.py"]}}, "data.imports own.py does not exist"),
    ):
        stand_in(trained, monkeypatch, probabilities=True, **changes)
        with pytest.raises(CheckpointError, match=f"exported file .*m.pt2 cannot be used here: .*{message}"):
            lightning_seg.load(tmp_path / "m.pt2", device="cpu")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"gone.pt2 does not exist"):
        lightning_seg.load(tmp_path / "gone.pt2", device="cpu")


def test_a_gpu_is_used_where_the_file_can(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """The usual ONNX Runtime has none, so that ``auto`` is the CPU there."""
    stand_in(trained, monkeypatch, probabilities=False)
    files = sys.modules["lightning_seg.trained.file_network"]
    asked: list[str] = []
    made = files.ExportedNetwork
    monkeypatch.setattr(files, "ExportedNetwork", lambda path, device: asked.append(device) or made(path, device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    lightning_seg.load(tmp_path / "m.pt2")
    lightning_seg.load(tmp_path / "m.onnx")
    assert asked == ["cuda", "cpu"]
