"""Processes that would wait for each other in vain are told so, each kind in its own words."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_seg.launching.starters import Processes, device_problems, find_launcher, late_rank, launch_problems
from tests.conftest import REPOSITORY
from tests.helpers.python import python

RANK_0 = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
TORCHRUN = {**RANK_0, "TORCHELASTIC_RUN_ID": "1", "GROUP_RANK": "0"}
SLURM = {
    "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1",
    "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODELIST": "localhost",
}  # fmt: skip
TWO = Processes(2)


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, Processes(1)),
        ({}, TWO),  # Lightning starts the second
        (without(RANK_0, "RANK"), TWO),  # as Lightning does
        (RANK_0, TWO),
        (TORCHRUN, TWO),
        ({**TORCHRUN, "RANK": "1", "GROUP_RANK": "1"}, Processes(1, 2)),
        (SLURM, TWO),
        ({**SLURM, "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0"}, Processes(1, 2)),
        ({"SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, Processes(1)),
        ({"SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "4"}, Processes(1)),  # salloc's shell
        ({**SLURM, **TORCHRUN}, TWO),  # torchrun inside a job
        ({"LSB_JOBID": "7"}, Processes(4, 2)),
    ],
)
def test_sound_launches(environment: dict[str, str], processes: Processes) -> None:
    assert launch_problems(environment, processes) == []


@pytest.mark.parametrize(
    ("environment", "processes", "message"),
    [
        ({**TORCHRUN, "RANK": "2"}, TWO, "RANK is 2, but must be from 0 to WORLD_SIZE - 1, which is 1"),
        ({**RANK_0, "RANK": "-1"}, TWO, "RANK is -1"),
        (TORCHRUN, Processes(4), "WORLD_SIZE is 2, but trainer.devices 4 × trainer.num_nodes 1 = 4 processes"),
        (TORCHRUN, Processes(2, 2), "WORLD_SIZE is 2, but trainer.devices 2 × trainer.num_nodes 2 = 4 processes"),
        (without(TORCHRUN, "LOCAL_RANK"), TWO, "LOCAL_RANK missing beside RANK 0, WORLD_SIZE 2"),
        (without(RANK_0, "LOCAL_RANK"), TWO, "LOCAL_RANK missing"),
        (without(RANK_0, "WORLD_SIZE"), TWO, "WORLD_SIZE missing beside RANK 0, LOCAL_RANK 0"),
        ({**TORCHRUN, "LOCAL_RANK": "2"}, TWO, "LOCAL_RANK is 2, but must be from 0 to trainer.devices - 1"),
        ({**RANK_0, "LOCAL_RANK": "1"}, TWO, "RANK is 0, but NODE_RANK 0 × trainer.devices 2 + LOCAL_RANK 1 is 1"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, TWO, "WORLD_SIZE is 'two', but a whole number is expected"),
        ({**TORCHRUN, "MASTER_ADDR": "nowhere.invalid"}, TWO, "MASTER_ADDR is 'nowhere.invalid', which cannot"),
        ({**TORCHRUN, "MASTER_PORT": "70000"}, TWO, "MASTER_PORT is 70000, but must be from 1 to 65535"),
        (without(TORCHRUN, "MASTER_ADDR"), TWO, "MASTER_ADDR not set"),
        ({}, Processes(1, 2), "MASTER_ADDR and MASTER_PORT not set, but 2 processes need it to find each other"),
        ({}, Processes(1, 2), "NODE_RANK does not say which of them this machine is"),
        (SLURM, Processes(1), "SLURM_NTASKS is 2, but trainer.devices 1 × trainer.num_nodes 1 = 1 processes"),
        (SLURM, Processes(4), "SLURM_NTASKS_PER_NODE is 2, but trainer.devices is 4"),
        (SLURM, Processes(1, 2), "SLURM_NNODES is 1, but trainer.num_nodes is 2: submit with --nodes=2"),
        (without(SLURM, "SLURM_NTASKS_PER_NODE"), TWO, "submit with --ntasks-per-node=2, not with --ntasks"),
        (without(SLURM, "SLURM_STEP_ID"), TWO, "srun did not start this process, so it would wait"),
        ({**SLURM, "SLURM_PROCID": "5"}, TWO, "SLURM_PROCID is 5, but must be below SLURM_NTASKS"),
        ({**SLURM, "SLURM_NODELIST": "no-such-host[3-4]"}, TWO, "SLURM_NODELIST is 'no-such-host3', which cannot"),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, Processes(1), "srun started 2 tasks, but SLURM_JOB_NAME is 'bash'"),
    ],
)  # fmt: skip
def test_each_mistake_in_its_own_words(environment: dict[str, str], processes: Processes, message: str) -> None:
    problems = launch_problems(environment, processes)
    assert any(message in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


def test_an_unresolved_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.launching.starters.socket.getaddrinfo", lambda *_: time.sleep(60))
    monkeypatch.setattr("lightning_seg.launching.starters._RESOLVE_SECONDS", 0.1)
    assert "no answer" in launch_problems(TORCHRUN, TWO)[0]


def test_devices_that_are_not_there() -> None:
    assert device_problems({}, Processes(2, 1, "gpu", 2)) == []
    assert device_problems({}, Processes(4, 1, "cpu", 2)) == []
    assert "asks for 2 GPUs, but this process sees 1" in device_problems({}, Processes(2, 1, "gpu", 1))[0]
    shown = device_problems({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "1"}, Processes(2, 1, "gpu", 1))[0]
    assert "CUDA_VISIBLE_DEVICES is '0'" in shown
    assert "--gpus-per-node" in shown
    assert "64 processes, but this machine has 2 CPUs" in device_problems({}, Processes(64, 1, "cpu", 2))[0]
    assert device_problems(SLURM, Processes(64, 1, "cpu", 1)) == []


@pytest.mark.parametrize(
    ("environment", "nodes", "rank"),
    [
        ({"NODE_RANK": "1"}, 2, 4),
        ({"NODE_RANK": "1", "LOCAL_RANK": "3"}, 2, 7),
        ({}, 2, 0),
        ({"NODE_RANK": "1"}, 1, None),  # left over from something else
        ({"NODE_RANK": "1", "RANK": "5"}, 2, None),
        (SLURM, 2, None),
        (TORCHRUN, 2, None),
    ],
)
def test_rank_of_machines_started_one_by_one(environment: dict[str, str], nodes: int, rank: int | None) -> None:
    assert late_rank(environment, Processes(4, nodes)) == rank


def test_two_machines_started_by_hand_train_one_run(experiment: Callable[..., Path], tmp_path: Path) -> None:
    command = [
        sys.executable, str(REPOSITORY / "train.py"), "fit", "--config", str(experiment(batch_size=1)),
        "--trainer.num_nodes", "2", "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0",
        "--model.overrides.MODEL.SEM_SEG_HEAD.IN_FEATURES", "[p2, p3]",
    ]  # fmt: skip
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29519"}
    machines = [
        subprocess.Popen(command, env={**shared, "NODE_RANK": node}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for node in "01"
    ]
    first, second = (machine.communicate(timeout=300)[0].decode() for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], first + second
    assert [run.name for run in (tmp_path / "runs" / "tiny").iterdir()] == ["version_0"]
    assert "which are frozen" in first
    assert "which are frozen" not in second


def test_torchrun_inside_slurm_is_torchrun() -> None:
    assert find_launcher({**SLURM, **TORCHRUN}) == "torchrun"
    assert find_launcher(SLURM) == "Slurm"
    assert find_launcher({**SLURM, "SLURM_JOB_NAME": "interactive"}) == "Lightning"


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_command_ends_before_it_waits(experiment: Callable[..., Path], command: str) -> None:
    """The first of two processes, whose second never comes."""
    arguments = [command, "--config", str(experiment()), "--trainer.devices", "4"]
    done = subprocess.run(
        [python(), str(REPOSITORY / "train.py"), *arguments], env={**os.environ, **TORCHRUN},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: WORLD_SIZE is 2, but trainer.devices 4" in done.stderr
    assert "Traceback" not in done.stderr


def test_torchrun_trains_one_run(experiment: Callable[..., Path], tmp_path: Path) -> None:
    arguments = ["fit", "--config", str(experiment()), "--trainer.devices", "2", "--trainer.max_steps", "2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    done = subprocess.run(
        [*command, str(REPOSITORY / "train.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "runs" / "tiny").iterdir())
    assert [run.name for run in runs] == ["version_0"]
    assert (runs[0] / "checkpoints" / "last.ckpt").is_file()
    assert [path.name for path in (runs[0] / "logs").iterdir()] == ["rank_1.log"]
    assert "rank 1 of 2: fit on " in (runs[0] / "logs" / "rank_1.log").read_text()
    assert "rank 1 of 2" not in done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "tiny.yaml"]
