"""The program of GPU benchmarks runs to its end on a CPU, so that its first run on a GPU fails for no small reason."""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.runs

SECTIONS = [
    "correct", "masks", "inference", "windows", "steps", "loading", "bands", "evaluating", "losses", "learning",
]  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of benchmarks."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def settings(load: Any, tmp_path: Path) -> Any:
    return load("sections.table").Settings("cpu", True, tmp_path, None, time.monotonic() + 300)


def gpu_benchmarks(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks/gpu.py"), "--tiny", "--folder", str(folder), *arguments],
        capture_output=True, text=True, timeout=540, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


@pytest.mark.parametrize("only", [["evaluating"], pytest.param(SECTIONS, marks=pytest.mark.slow)], ids=["one", "all"])
def test_sections_run_on_a_cpu(tmp_path: Path, only: list[str]) -> None:
    """Both sides of each comparison compute the same there; figures of so small a run mean nothing."""
    done = gpu_benchmarks("--only", *only, "--output", str(tmp_path / "found.json"), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    sections = {section["name"]: section for section in found["sections"]}
    assert list(sections) == only
    for section in sections.values():
        assert section["status"] == "done"
        assert section["rows"]
        assert not [row for row in section["rows"] if row["failed"]]
    assert found["versions"]["torch"]
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    if "correct" in only:
        (tests,) = sections["correct"]["rows"]
        assert all(row["here"] and row["peer"] for row in sections["masks"]["rows"])
        assert tests["here"] == tests["peer"] >= 30
        compared = [row for row in sections["steps"]["rows"] if row["here"]]
        assert len(compared) == 6


def test_what_there_is_no_time_for_is_named_and_is_no_failure(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "GRACE", 300.0)  # of a busy machine
    arguments = ["--tiny", "--folder", str(tmp_path), "--only", "correct", "losses", "--seconds", "2"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    shown = capsys.readouterr().out
    assert ended.value.code == 1
    assert re.search(r"tests not run for lack of time .* NO TIME\n    test_goes_on\.py: ", shown)
    assert "FAILED" not in shown
    assert "Wrong" not in shown
    assert "No time for: tests not run for lack of time" in shown
    assert "hard pixel mining, 19 classes" in shown


def test_sections_are_described_and_share_the_time(load: Any) -> None:
    sections = load("gpu").SECTIONS
    assert list(sections) == SECTIONS
    assert sum(share for _, share in sections.values()) == pytest.approx(1)
    table = (REPOSITORY / "benchmarks/README.md").read_text().partition("## On a GPU")[2].partition("**Measured")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == SECTIONS


FIRST = """
import pytest

def test_passes():
    pass

def test_is_skipped():
    pytest.skip("there is no moon")

@pytest.mark.parametrize("of", ["a night"])
def test_fails(of):
    assert 1 == 2, "the moon is round"
"""
SECOND = """
import pathlib, time

def test_passes():
    pass

def test_hangs():
    pathlib.Path("hangs").touch()
    time.sleep(300)

def test_never_begins():
    pass
"""


def test_tests_that_did_not_run_are_counted_and_do_not_read_as_failed(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patience:
        """Leaves the first file the time that it wants, and ends the second one when it hangs."""

        device = "cpu"
        seconds = iter([100.0, 0.2])

        @property
        def left(self) -> float:
            end = time.monotonic() + 100
            while not (tmp_path / "hangs").exists() and time.monotonic() < end:
                time.sleep(0.05)
            return next(self.seconds)

    (tmp_path / "tests/gpu").mkdir(parents=True)
    (tmp_path / "tests/gpu/test_a.py").write_text(FIRST)
    (tmp_path / "tests/gpu/test_b.py").write_text(SECOND)
    monkeypatch.setattr(load("sections.correct"), "REPOSITORY", tmp_path)
    failed, passed, late = load("sections.correct").run(Patience())
    assert (failed.what, failed.verdict) == ("test_fails[a night]", "FAILED")
    assert "the moon is round" in failed.note
    assert (passed.here, passed.peer, passed.verdict) == (2, 3, "MISSED")
    assert passed.note == "1 skipped: there is no moon"
    assert (late.here, late.peer, late.verdict) == (2, 6, "NO TIME")
    assert late.note == "test_b.py: 2 of 3, from test_hangs"


def test_tests_that_end_their_process_have_failed(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests/gpu").mkdir(parents=True)
    (tmp_path / "tests/gpu/test_a.py").write_text("import os\n\ndef test_dies():\n    os._exit(3)\n")
    monkeypatch.setattr(load("sections.correct"), "REPOSITORY", tmp_path)
    lost, none = load("sections.correct").run(SimpleNamespace(device="cpu", left=100.0))
    assert (lost.what, lost.verdict) == ("test_a.py: 1 tests lost", "FAILED")
    assert (none.peer, none.verdict) == (0, "")


def test_windows_are_those_of_a_plain_loop(load: Any, settings: Any) -> None:
    rows = list(load("sections.windows").run(settings))
    assert [row.what.rpartition(": ")[2] for row in rows] == ["a plain loop", "the whole image"] * 2
    assert not [row for row in rows if row.failed]
    assert all(row.note == "0.0e+00 of the pixels differ" for row in rows[::2])
    assert all(row.note != "0.0e+00 of the pixels differ" for row in rows[1::2])


def test_four_bands_are_trained_on_from_both_kinds_of_files(load: Any, settings: Any) -> None:
    pytest.importorskip("rasterio")
    rows = list(load("sections.bands").run(settings))
    assert [row.what.split(", batch")[0] for row in rows] == ["4 bands, GeoTIFF", "4 bands, .npy"]
    assert not [row for row in rows if row.failed]
    assert all(row.here > 0 for row in rows)


@pytest.mark.parametrize(
    ("section", "what", "why"),
    [
        ("bands", "4 bands, GeoTIFF", "rasterio is not installed: pip install 'lightning_seg[geo]'"),
        ("masks", "Mask2Former R-50, EoMT-S, EoMT-B",
         "transformers is not installed: pip install 'lightning_seg[transformers]'"),
    ],
)  # fmt: skip
def test_what_needs_a_missing_package_is_left_out_with_its_name(
    load: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, section: str, what: str, why: str
) -> None:
    module = load(f"sections.{section}")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    row = next(module.run(settings))
    assert (row.what, row.verdict, row.note) == (what, "", f"left out: {why}")


def test_mask2formers_peer_has_its_logits_and_losses(load: Any, settings: Any) -> None:
    pytest.importorskip("transformers")
    row = load("sections.masks").steps_row("Mask2Former R-50", None, settings)
    assert not row.failed, row.note
    apart, *losses = map(float, re.findall(r"[\d.]+(?:e[+-]\d+)?", row.note))
    assert apart < 1e-4
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_eomts_peer_has_its_logits_until_a_weight_differs(load: Any) -> None:
    pytest.importorskip("transformers")
    segmentor, batch = load("sections.masks").network_and_batch("EoMT-B", 2, 64, tiny=True, device="cpu")
    peer = load("sections.mask_peers").Peer(segmentor, batch)
    assert peer.difference(segmentor) < 1e-4
    with torch.no_grad():
        peer.model.class_predictor.weight.mul_(1.1)
    assert peer.difference(segmentor) > 0.05


def test_another_network_is_no_peer(load: Any) -> None:
    pytest.importorskip("transformers")
    here, peer = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"transformers' model has no place for bias$"):
        load("sections.mask_peers").copy_weights(here, peer, lambda name: name.replace("bias", "other"))


@pytest.mark.parametrize(
    ("device", "providers", "expected"),
    [
        ("cpu", ["CPUExecutionProvider"], ""),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], ""),
        ("cuda", ["CPUExecutionProvider"], "this onnxruntime has CPUExecutionProvider, not CUDAExecutionProvider"),
        ("cuda", None, "onnx and onnxscript and onnxruntime not installed: pip install 'lightning_seg[export]'"),
    ],
)
def test_an_onnx_file_runs_where_onnx_runtime_has_the_device(
    load: Any, monkeypatch: pytest.MonkeyPatch, device: str, providers: list[str] | None, expected: str
) -> None:
    inference = load("sections.inference")
    monkeypatch.setattr(inference, "find_spec", lambda name: providers)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(get_available_providers=lambda: providers))
    assert inference.without_onnx(device).startswith(expected)
    assert bool(inference.without_onnx(device)) == bool(expected)


def test_refuses_a_folder_that_is_not_camvid(tmp_path: Path) -> None:
    done = gpu_benchmarks("--camvid", str(tmp_path), folder=tmp_path)
    assert done.returncode == 2
    assert "has no folder train" in done.stderr


@pytest.mark.skipif("sys.platform != 'linux'")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks/gpu.py")],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert "there is no GPU that this torch can use: --tiny" in done.stderr


@pytest.mark.slow
def test_large_images_run(tmp_path: Path) -> None:
    program = [sys.executable, str(REPOSITORY / "benchmarks/large.py"), "--tiny", "--folder", str(tmp_path)]
    program += ["--output", str(tmp_path / "figures.json")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bytes" in done.stdout
    assert "layout COG" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["the same bytes"] == figures["COG"] == 1
    assert 0.5 < figures["memory by height"] < 2
    assert 0.1 < figures["peak GiB"] < 10
