"""``benchmarks/peers.py`` compares what is the same, and nothing else; figures of so small runs mean nothing."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.runs, pytest.mark.skipif("sys.platform != 'linux'")]

TINY = ["--size", "32", "--batch", "2", "--rounds", "1", "--steps", "1", "--warm_up", "1"]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of benchmarks."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module


def pair_of(load: Any, key: str) -> Any:
    """A pair whose other side is installed."""
    pair = load("sides.pairs").PAIRS[key]
    if missing := [origin for origin in pair.missing() if origin != "accelerate"]:
        pytest.skip(f"{missing[0]} is no dependency")
    return pair


@pytest.mark.parametrize("key", ["unet", "fpn", "deeplab", "segformer"])
def test_both_sides_compute_the_same_but_for_the_parts_that_are_named(load: Any, key: str) -> None:
    pair, batch = pair_of(load, key), load("sections.loop").make_batch(2, 64, 64)
    here, peer = load("sides.here").check(pair, batch), load("sides.peer").check(pair, batch)
    assert load("peers").disagreements(here, peer) == []
    assert here["compared parameters"] == pytest.approx(peer["compared parameters"], rel=1e-5)
    assert here["compared flops"] == pytest.approx(peer["compared flops"], rel=1e-5)
    assert here["logits"] == [2, 19, 64, 64]
    assert here["labels"] == [64, 64]
    whole = here["parameters"] / peer["parameters"], here["flops"] / peer["flops"]
    assert whole == pytest.approx(
        {"unet": (1.00, 0.92), "fpn": (1.09, 1.41), "deeplab": (0.985, 0.985), "segformer": (1.00, 0.58)}[key], abs=0.02
    )


def test_both_sides_train_and_predict(load: Any) -> None:
    """Images per second of each, of a plain Lightning loop and of ``load``."""
    pair, batch = load("sides.pairs").PAIRS["deeplab"], load("sections.loop").make_batch(2, 32, 32)
    for side in ("here", "peer"):
        module = load(f"sides.{side}")
        assert module.train(pair, batch, 1, 1) > 0
        assert module.infer(pair, batch, 1, 0) > 0


def test_transformers_trainer_runs(load: Any) -> None:
    pytest.importorskip("accelerate", reason="accelerate is no dependency")
    pair, batch = pair_of(load, "segformer"), load("sections.loop").make_batch(2, 32, 32)
    assert load("sides.peer").train(pair, batch, 2, 1) > 0


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "parameters": 1e6, "flops": 1e9, "compared parameters": 1_000_000, "compared flops": 10**9,
        "logits": [2, 19, 64, 64], "labels": [64, 64], "loss": 3.0, "cross-entropy": 3.0, **changes,
    }  # fmt: skip


def test_says_what_is_not_the_same(load: Any) -> None:
    disagreements = load("peers").disagreements
    assert disagreements(facts(), facts(**{"compared flops": 1_000_900_000})) == []
    assert disagreements(facts(), facts(**{"compared flops": 1_002_000_000})) == [
        "compared flops are 1000000000 here and 1002000000 there"
    ]
    assert disagreements(facts(**{"compared parameters": 990_000}), facts()) == [
        "compared parameters are 990000 here and 1000000 there"
    ]
    assert disagreements(facts(labels=[32, 32]), facts()) == ["labels are of size [32, 32] here and [64, 64] there"]
    assert disagreements(facts(), facts(loss=3.1)) == [
        "the loss there is 3.10000, but the cross-entropy of its logits 3.00000"
    ]


def run(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *keys: str, **changes: Any
) -> tuple[int, dict[str, float]]:
    """The command with made-up measurements: here 3 and 2, there 2 and 4 images/s and MiB."""
    peers, output = load("peers"), tmp_path / "found.json"

    def child(pair: Any, side: str, task: str, given: Any) -> dict[str, Any]:
        if task == "check":
            return facts(**(changes if side == "peer" else {}))
        return {"here": {"images/s": 3.0, "MiB": 2.0}, "peer": {"images/s": 2.0, "MiB": 4.0}}[side]

    monkeypatch.setattr(peers, "child", child)
    monkeypatch.setattr("sys.argv", ["peers.py", "--only", *keys, "--output", str(output)])
    return peers.main(), json.loads(output.read_text())


def test_ratios_are_of_neighbours(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    status, figures = run(load, monkeypatch, tmp_path, "deeplab")
    assert status == 0
    assert figures == {
        "deeplab, train": 1.5, "deeplab, train: memory": 0.5, "deeplab, infer": 1.5, "deeplab, infer: memory": 0.5,
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "a training step: 1.50 times as fast (1.50 to 1.50; 3.00 and 2.00 images/s), 0.50 times the memory" in said
    assert "one more 3×3 convolution after the pyramid pooling" in said


def test_what_is_not_the_same_is_not_timed(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    status, figures = run(load, monkeypatch, tmp_path, "deeplab", labels=[32, 32])
    assert (status, figures) == (1, {})
    assert "Not the same: DeepLabV3, ResNet-50, output stride 8: labels are of size" in capsys.readouterr().out


def test_peers_that_are_missing_are_named(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(load("sides.pairs"), "importlib", nothing)
    status, figures = run(load, monkeypatch, tmp_path, "unet", "segformer")
    assert (status, figures) == (0, {})
    said = capsys.readouterr().out
    assert "left out: pip install segmentation-models-pytorch" in said
    assert "left out: pip install transformers accelerate" in said


@pytest.mark.slow
def test_the_command_runs(tmp_path: Path) -> None:
    """Each side in processes of its own."""
    command = [sys.executable, str(REPOSITORY / "benchmarks/peers.py"), "--only", "deeplab", *TINY]
    command += ["--output", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "found.json").read_text())
    assert len(figures) == 4
    assert all(figure > 0 for figure in figures.values())
