"""The launchers in ``cluster/``, on a real Slurm of one machine where there is one (``.ci/slurm`` starts it)."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

Experiment = Callable[..., Path]
SBATCH = REPOSITORY / "cluster" / "slurm.sbatch"

LONG = 12
"""Optimiser steps of a run that is interrupted; each takes about a second, with its validation and checkpoint."""


def stub(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def run_stubbed(tmp_path: Path, *arguments: str, status: int = 0) -> tuple[int, str]:
    """The batch script with programs that write down how they were called; its exit status and what they wrote."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    calls = tmp_path / "calls"
    stub(programs, "srun", f'echo "srun $*" >>{calls}\nexit {status}')
    stub(programs, "scontrol", f'echo "scontrol $*" >>{calls}')
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "SLURM_JOB_ID": "17",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }
    done = subprocess.run(["bash", str(SBATCH), *arguments], env=environment, capture_output=True, check=False)
    return done.returncode, calls.read_text()


def test_batch_script_passes_its_arguments_on(tmp_path: Path) -> None:
    status, calls = run_stubbed(tmp_path, "--config", "a b.yaml", "--trainer.max_epochs", "5")
    assert status == 0
    assert calls == (
        "srun --wait=300 python train.py fit --ckpt_path last --config a b.yaml --trainer.max_epochs 5 "
        "--trainer.num_nodes 2 --trainer.devices 4\n"
    )


@pytest.mark.parametrize(("status", "requeues"), [(0, False), (1, False), (137, False), (75, True), (143, True)])
def test_batch_script_requeues_what_was_saved(tmp_path: Path, status: int, requeues: bool) -> None:
    code, calls = run_stubbed(tmp_path, "--config", "c.yaml", status=status)
    assert code == status
    assert ("scontrol requeue 17" in calls) == requeues


def test_torchrun_script_trains(experiment: Experiment, tmp_path: Path) -> None:
    arguments = ["--config", str(experiment()), "--trainer.max_steps", "2"]
    environment = {"NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1", "LIGHTNING_SEG_PYTHON": sys.executable}
    done = subprocess.run(
        [str(REPOSITORY / "cluster/torchrun.sh"), *arguments, "--trainer.default_root_dir", str(tmp_path / "runs")],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs" / "tiny").iterdir()] == ["version_0"]


# A real Slurm


@pytest.fixture(scope="module")
def slurm() -> None:
    """A Slurm that takes jobs of two tasks."""
    if shutil.which("sbatch") is None:
        pytest.skip("Slurm is not installed: .ci/slurm installs and starts one")
    try:
        state = subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("sinfo does not answer: .ci/slurm starts a Slurm")
    if not re.search("idle|mix|alloc", state.stdout):
        pytest.skip(f"no Slurm with a machine that works: {state.stdout or state.stderr}")


class Job:
    """A submitted job, cancelled when the test ends."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self.folder = config.parent
        self.output = self.folder / "slurm.out"
        # Slurm copies the environment: without what pytest or torch have set.
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "LIGHTNING_SEG_PYTHON": sys.executable}
        submitted = subprocess.run(
            [
                "sbatch", "--parsable", "--ntasks-per-node=2", f"--output={self.output}", str(SBATCH),
                "--config", str(config), "--trainer.default_root_dir", str(self.folder / "runs"), *arguments,
            ],
            cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.id = submitted.stdout.strip()

    @property
    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs" / "tiny").glob("*"))

    def show(self, field: str) -> str:
        shown = subprocess.run(["scontrol", "show", "job", self.id], capture_output=True, text=True, check=True).stdout
        match = re.search(rf"\b{field}=(\S+)", shown)
        assert match is not None, shown
        return match[1]

    def wait(self, *, until: Callable[[], bool], seconds: float = 400) -> None:
        end = time.monotonic() + seconds
        while not until():
            log = self.output.read_text() if self.output.exists() else "no output"
            assert time.monotonic() < end, log
            assert self.show("JobState") not in ("FAILED", "CANCELLED", "TIMEOUT"), log
            time.sleep(0.5)

    def wait_for_the_end(self) -> str:
        self.wait(until=lambda: self.show("JobState") == "COMPLETED")
        return self.output.read_text()

    def steps(self) -> list[int]:
        """Optimiser steps whose loss is in ``metrics.csv``."""
        with (self.runs[0] / "metrics.csv").open() as file:
            return [int(row["step"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.fixture
def submit(slurm: None) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def submit(config: Path, *arguments: str) -> Job:
        jobs.append(Job(config, *arguments))
        return jobs[-1]

    yield submit
    for job in jobs:
        subprocess.run(["scancel", "--quiet", job.id], check=False)


SLOW = {"max_steps": LONG, "val_check_interval": 1, "check_val_every_n_epoch": 1, "limit_val_batches": 1}
"""Settings of a run that saves after every step, for it to be interrupted anywhere."""


def slow(config: Path) -> list[str]:
    listener = {"class_path": "tests.ranks.RankFile", "init_args": {"folder": str(config.parent / "ranks")}}
    return [
        *("--trainer.callbacks", json.dumps([listener])),
        *(argument for name, value in SLOW.items() for argument in (f"--trainer.{name}", str(value))),
        *("--trainer.max_epochs", "-1"),
    ]


def steps_of_ranks(folder: Path) -> list[set[int]]:
    """Steps that each rank has trained, over all starts of the job."""
    files = sorted(folder.glob("rank_*.csv"))
    return [{int(line.split(",")[0]) for line in file.read_text().splitlines()} for file in files]


def test_two_tasks_train_one_run(experiment: Experiment, submit: Callable[..., Job]) -> None:
    config = experiment(batch_size=1)
    job = submit(config, *slow(config), "--trainer.max_steps", "3")
    output = job.wait_for_the_end()
    assert [run.name for run in job.runs] == ["version_0"], output
    assert job.steps() == [0, 1, 2]
    assert steps_of_ranks(config.parent / "ranks") == [{0, 1, 2}, {0, 1, 2}]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("scontrol requeue {}", marks=pytest.mark.slow, id="requeue"),
        pytest.param("scancel --signal=USR1 {}", id="SIGUSR1"),
    ],
)
def test_an_interrupted_job_is_one_run(experiment: Experiment, submit: Callable[..., Job], command: str) -> None:
    config = experiment(batch_size=1)
    job = submit(config, *slow(config))
    ranks = config.parent / "ranks"
    job.wait(until=lambda: len(steps := steps_of_ranks(ranks)) == 2 and all(max(step) >= LONG // 4 for step in steps))
    subprocess.run(command.format(job.id).split(), check=True)
    job.wait(until=lambda: job.show("Restarts") == "1")
    output = job.wait_for_the_end()
    assert [run.name for run in job.runs] == ["version_0"], output
    assert job.steps() == list(range(LONG))
    assert steps_of_ranks(ranks) == [set(range(LONG))] * 2
    trained = sum(len(file.read_text().splitlines()) for file in ranks.glob("rank_*.csv"))
    assert trained < 2 * LONG * 1.5, "it started afresh"


def test_tasks_without_devices_are_told_at_once(experiment: Experiment, slurm: None) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    start = time.monotonic()
    done = subprocess.run(
        ["srun", "--ntasks-per-node=2", "--job-name=train", sys.executable, "train.py", "fit",
         "--config", str(experiment())],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: SLURM_NTASKS is 2, but trainer.devices 1 × trainer.num_nodes 1 = 1 processes" in done.stderr
    assert time.monotonic() - start < 100
