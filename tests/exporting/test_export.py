"""The command: a checkpoint becomes a file that gives the same, or there is no file and a reason."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from lightning_seg.errors import CheckpointError
from lightning_seg.export import main
from lightning_seg.exporting import exporter, loading, running
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.metadata import KEY
from lightning_seg.exporting.running import ExportedNetwork, read_metadata
from lightning_seg.exporting.wish import Wish
from lightning_seg.inference.whole import label_maps
from lightning_seg.module import SegmentationModule
from tests.conftest import CLASSES, folder
from tests.exporting.files import metadata_of, module_of, save
from tests.exporting.files import running as running_of
from tests.exporting.test_certificate import aligned_corners

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]  # exports networks: some seconds each

TRANSFORMS = [{"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 0.0}}]


@pytest.fixture(scope="module")
def module() -> SegmentationModule:
    return module_of({"INPUT.FORMAT": "BGR"})


@pytest.fixture(scope="module")
def run(module: SegmentationModule, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with three validation images."""
    path = tmp_path_factory.mktemp("run")
    save(module, path / "checkpoints" / "last.ckpt")
    data = {
        "root": str(scenes), "classes": CLASSES, "train": folder("train"), "val": folder("val"),
        "palette": {"sky": "#010203"}, "eval_transforms": TRANSFORMS,
    }  # fmt: skip
    (path / "config.yaml").write_text(yaml.safe_dump({"data": data, "trainer": {"max_epochs": 1}}))
    return path


def labels_of(module: SegmentationModule, image: torch.Tensor) -> torch.Tensor:
    size = (image.shape[2], image.shape[3])
    with torch.no_grad():
        scores = module.segmentor.evaluate([{"image": one} for one in image]).scores
    return torch.stack(label_maps(scores, [size] * len(image), [size] * len(image)))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_run_becomes_a_file_that_gives_the_same(
    suffix: str, run: Path, module: SegmentationModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"a{suffix}"
    assert main(["--ckpt_path", str(run), "--output", str(file), "--probabilities"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, f"{file.name}.parity.json"]
    said = capsys.readouterr().out.splitlines()
    found = "15 batches, 359060 pixels: 0 of another class than the network's, 0 of them no ties"
    assert said[-3:] == [found, str(file), f"{file}.parity.json"]
    certificate = json.loads((tmp_path / f"a{suffix}.parity.json").read_text())
    assert certificate["passed"] is True
    assert [trial["name"] for trial in certificate["trials"]][:4] == ["0000", "0001", "0002", "size"]
    network = ExportedNetwork(file)
    image = torch.randint(0, 256, (3, 3, 61, 45), dtype=torch.uint8)
    found = network(image)
    assert torch.equal(found.mask, labels_of(module, image))
    assert found.probabilities is not None
    assert found.probabilities.shape == (3, 6, 61, 45)
    assert torch.equal(found.probabilities.argmax(1), found.mask.long())
    said_of_itself = read_metadata(file)
    assert said_of_itself == network.metadata
    assert said_of_itself.class_names == tuple(CLASSES)
    assert said_of_itself.palette[0] == (1, 2, 3)
    assert said_of_itself.outputs == ("mask", "probabilities")
    assert said_of_itself.channels == ("red", "green", "blue")
    assert said_of_itself.eval_transforms == tuple(TRANSFORMS)
    assert said_of_itself.checkpoint == str(run / "checkpoints" / "last.ckpt")
    assert said_of_itself.overrides["INPUT.FORMAT"] == "BGR"
    assert said_of_itself.made_with["torch"] == torch.__version__.split("+", maxsplit=1)[0]
    for path in (b"site-packages", os.fsencode(Path(exporter.__file__).parent)):
        assert path not in file.read_bytes(), "a file says nothing of the machine that exports"


def test_a_file_that_says_something_else_is_not_left(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Graph, "upsampled", aligned_corners)
    file = tmp_path / "a.pt2"
    assert main(["--ckpt_path", str(run), "--output", str(file)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2.parity.json"]
    assert json.loads((tmp_path / "a.pt2.parity.json").read_text())["passed"] is False
    said = capsys.readouterr().err
    assert "pixels are of another class than the network's and no ties, where 0.01% are allowed" in said
    assert f"error: {file} is not written; see {file}.parity.json" in said


@pytest.mark.slow
def test_float16_files_hold_float16(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    assert main(["--ckpt_path", str(run), "--output", str(file), "--half"]) == 0
    weights = [tensor for tensor in onnx.load(file).graph.initializer if len(tensor.dims) == 4]
    assert len(weights) > 5
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    assert read_metadata(file).precision == "float16"
    assert json.loads((tmp_path / "a.onnx.parity.json").read_text())["allowed_share"] == 0.01


def test_8_bits_are_measured_and_refused_where_they_cost_too_much(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--ckpt_path", str(run), "--int8", "--output"]
    assert main([*flags, str(tmp_path / "a.onnx"), "--max_drop", "100"]) == 0
    certificate = json.loads((tmp_path / "a.onnx.parity.json").read_text())
    before, after = certificate["mIoU_float32"], certificate["mIoU_int8"]
    assert 0 < before < 100
    assert 0 < after < 100
    assert f"mIoU {before:.2f} % in float32, {after:.2f} % in 8 bits" in capsys.readouterr().out
    assert b"QuantizeLinear" in (tmp_path / "a.onnx").read_bytes()
    assert read_metadata(tmp_path / "a.onnx").precision == "int8"
    figures = iter([50.0, 48.5])
    monkeypatch.setattr(exporter, "mean_iou", lambda *_: next(figures))
    monkeypatch.setattr(exporter, "_write", lambda *_: running_of(tmp_path / "a.onnx"))
    monkeypatch.setattr(exporter, "_running", lambda file: None)
    monkeypatch.setattr(exporter.Certificate, "write", lambda *_: None)
    assert main([*flags, str(tmp_path / "b.onnx")]) == 1
    assert not (tmp_path / "b.onnx").exists()
    said = capsys.readouterr().err
    assert "error: 8 bits cost 1.50 points of mIoU (50.00 before, 48.50 after), but --max_drop allows 1" in said


def test_a_checkpoint_alone_is_tried_on_odd_sizes(
    module: SegmentationModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save(module, tmp_path / "alone.ckpt")
    assert main(["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "a.pt2")]) == 0
    assert f"Without validation images ({checkpoint} lies in no run folder)" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "a.pt2.parity.json").read_text())["trials"]) == 12
    assert main(["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "a.onnx"), "--int8"]) == 1
    assert "--int8 needs the run's validation images with their masks, but" in capsys.readouterr().err


def test_what_is_not_in_the_graph_is_told_and_noted_and_other_images_may_be_given(
    run: Path, scenes: Path, tmp_path: Path
) -> None:
    trained = loading.load_trained(str(run))
    inference = {"class_path": "lightning_seg.inference.SlidingWindow", "init_args": {"size": 64}}
    trained.module.hparams["inference"] = inference
    said: list[str] = []
    wish = Wish(tmp_path / "a.pt2", images=str(scenes / "train" / "images"), most=2)
    exporter.export(trained, wish, said.append)
    assert said[0].startswith("model.inference (lightning_seg.inference.SlidingWindow) is not in the graph")
    assert read_metadata(tmp_path / "a.pt2").inference == inference
    trials = json.loads((tmp_path / "a.pt2.parity.json").read_text())["trials"]
    assert [trial["name"] for trial in trials[:3]] == ["0000", "0005", "size"]


def test_a_network_that_cannot_be_traced_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def numbers(module: Any, features: Any) -> Any:
        height = int(features[module.in_features[0]].shape[-2])  # makes a number of a size
        return original(module, {name: feature[..., :height, :] for name, feature in features.items()})

    from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

    original = SemSegFPNHead.layers
    monkeypatch.setattr(SemSegFPNHead, "layers", numbers)
    assert main(["--ckpt_path", str(run), "--output", str(tmp_path / "a.onnx")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: SemSegFPNHead on TimmBackbone cannot be exported to .onnx with free sizes: ")
    assert "What may work is .pth; a .pth file works with every YAML config" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "flags", "message"),
    [
        ("a.pb", [], "a.pb ends in .pb, but .onnx, .pt2 or .pth is needed"),
        ("a", [], "a ends in nothing, but .onnx"),
        ("a.pt2", ["--half", "--int8"], "--half and --int8 exclude each other"),
        ("a.pt2", ["--int8"], "a.pt2 ends in .pt2: let it end in .onnx"),
        ("a.pth", ["--half"], "knows neither --half nor --probabilities"),
        ("a.pth", ["--probabilities"], "knows neither --half nor --probabilities"),
        ("a.pt2", ["--num_images", "0"], "--num_images is 0, but must be at least 1"),
        ("a.onnx", ["--int8", "--max_drop", "-1"], "--max_drop is -1.0, but points of mIoU from 0 on are needed"),
        ("no/a.pt2", [], "no does not exist: make it first"),
        ("there.pt2", [], "there.pt2 exists: remove it, or give another --output"),
        ("there.pth", [], "there.yaml exists: remove it, or give another --output"),
        ("a.pt2", ["--images", "none.png"], "--images 'none.png' matches no image: expected a file, a folder"),
        ("a.pt2", ["--ckpt_path", "none.ckpt"], "checkpoint none.ckpt does not exist"),
        ("a.pt2", ["--ckpt_path", "best"], "--ckpt_path best needs the name of a run: give its folder"),
        ("a.pt2", ["--ckpt_path", "s3://a.ckpt"], "checkpoint s3://a.ckpt is an address"),
        ("a.pt2", ["--ckpt_path", "there.pt2"], "there.pt2 is an exported file already: give the checkpoint"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    output: str, flags: list[str], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("there.pt2", "there.yaml"):
        Path(name).write_text("kept")
    assert main(["--ckpt_path", str(run), "--output", output, *flags]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.pt2", "there.yaml"]
    assert Path("there.pt2").read_text() == "kept"


def test_a_folder_that_cannot_be_written_to_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    assert main(["--ckpt_path", str(run), "--output", str(tmp_path / "a.pt2")]) == 1
    assert f"its folder {tmp_path} cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_what_installs_it(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = importlib.import_module

    def import_module(wanted: str, package: str | None = None) -> Any:
        if wanted == name:
            raise ImportError(f"No module named {name!r}")
        return original(wanted, package)

    monkeypatch.setattr(running.importlib, "import_module", import_module)
    assert main(["--ckpt_path", str(run), "--output", str(tmp_path / "a.onnx")]) == 1
    assert f"{name} is missing or broken" in (said := capsys.readouterr().err)
    assert "pip install 'lightning_seg[export]'" in said


def test_a_checkpoint_in_wandb_is_fetched(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = run / "checkpoints" / "last.ckpt"
    asked: list[str] = []
    monkeypatch.setattr(
        "lightning_seg.loggers.wandb_checkpoint.fetch_checkpoint",
        lambda address, root: asked.append(address) or fetched,
    )
    assert loading.load_trained("wandb://me/project/model-1:best").checkpoint == fetched
    assert asked == ["wandb://me/project/model-1:best"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", None, r"exported file .*a\.onnx does not exist"),
        ("a.onnx", b"nothing", r"exported file .*a\.onnx cannot be read \(.*\): it is damaged, or of another version"),
        ("a.pt2", b"nothing", r"a\.pt2 cannot be read \(it is no ZIP archive, or is cut off\): it is damaged"),
        ("a.ckpt", b"nothing", r"a\.ckpt is no exported file: \.onnx or \.pt2 is needed"),
    ],
)
def test_what_is_no_exported_file_is_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (ExportedNetwork, read_metadata):
        with pytest.raises(CheckpointError, match=message):
            read(tmp_path / name)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(1, 3, 4, 4),))
    torch.export.save(program, tmp_path / "a.pt2")
    for read in (ExportedNetwork, read_metadata):
        with pytest.raises(CheckpointError, match="was not exported by lightning_seg"):
            read(tmp_path / "a.pt2")
    torch.export.save(program, tmp_path / "b.pt2", extra_files={"lightning_seg.json": '{"step": 3}'})
    with pytest.raises(CheckpointError, match=r"says of itself what cannot be read: it lacks class_names, palette, .*"):
        read_metadata(tmp_path / "b.pt2")
    with pytest.raises(CheckpointError, match=r"c says of itself what cannot be read: 'int' object is not iterable"):
        running._metadata(Path("c"), metadata_of().to_json().replace('"palette": [', '"palette": 3, "other": ['))


def test_onnx_runtime_does_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    value = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [1, 3, "h", "w"])
        for name in ("image", "mask")
    }
    node = onnx.helper.make_node("Identity", ["image"], ["mask"])
    graph = onnx.helper.make_graph([node], "same", [value["image"]], [value["mask"]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {KEY: metadata_of().to_json()})
    onnx.save(model, tmp_path / "same.onnx")
    sessions: list[Any] = []
    original = onnxruntime.InferenceSession

    def session(*given: Any, **named: Any) -> Any:
        sessions.append(original(*given, **named))
        return sessions[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    image = torch.arange(24, dtype=torch.uint8).reshape(1, 3, 2, 4)
    assert torch.equal(ExportedNetwork(tmp_path / "same.onnx", threads=1)(image).mask, image)
    options = sessions[0].get_session_options()
    assert (options.enable_mem_pattern, options.intra_op_num_threads) == (False, 1)
