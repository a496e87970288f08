"""The program of GPU benchmarks runs to its end on a CPU, so that its first run on a GPU fails for no small reason."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.runs

SECTIONS = ["correct", "masks", "inference", "steps", "loading", "evaluating", "losses", "learning"]


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
        assert tests["here"] == tests["peer"] >= 30
        compared = [row for row in sections["steps"]["rows"] if row["here"]]
        assert len(compared) == 6


def test_a_section_that_fails_is_passed_over(tmp_path: Path) -> None:
    """Here for lack of time: what there is none for is left out, and what takes too long is killed."""
    done = gpu_benchmarks("--only", "correct", "losses", "--seconds", "4", folder=tmp_path)
    assert done.returncode == 1
    assert "stopped for lack of time" in done.stdout
    assert "hard pixel mining, 19 classes" in done.stdout
    assert "Wrong: tests that pass" in done.stdout


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
