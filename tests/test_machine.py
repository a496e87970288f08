"""CPUs and memory of containers, jobs and ranks, from made-up files and environments."""

import os
from pathlib import Path

import pytest

from lightning_seg.machine import usable_cpus, usable_memory

GIB = 2**30


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def machine(root: Path, cgroup: str = "", **files: str) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        ("0::/", {}, 16),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        ("0::/", {"sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        ("0::/", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 3),
        ("0::/docker/x", {"sys/fs/cgroup/cpu.max": "400000 100000"}, 4),  # the container sees its own as the root
        (
            "3:cpu,cpuacct:/job\n0::/",
            {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "600000", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000"},
            6,
        ),
        (
            "3:cpu:/\n4:memory:/",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            16,
        ),
    ],
)
def test_quota_of_a_container(tmp_path: Path, cgroup: str, files: dict[str, str], cpus: int) -> None:
    assert usable_cpus(environment={}, root=machine(tmp_path, cgroup, **files)) == cpus


@pytest.mark.parametrize(
    ("environment", "local_processes", "cpus"),
    [
        ({}, None, 16),
        ({}, 4, 4),
        ({}, 5, 3),
        ({}, 64, 1),
        ({"LOCAL_WORLD_SIZE": "8"}, None, 2),
        ({"SLURM_CPUS_PER_TASK": "6", "SLURM_NTASKS_PER_NODE": "2"}, 2, 6),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_NTASKS_PER_NODE": "4"}, 4, 3),
        ({"SLURM_CPUS_ON_NODE": "12"}, None, 12),
        ({"SLURM_CPUS_PER_TASK": "12"}, 4, 3),  # one task that starts four processes
        ({"SLURM_CPUS_PER_TASK": "99"}, 1, 16),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_NTASKS_PER_NODE": "2(x3)", "LOCAL_WORLD_SIZE": "0"}, None, 16),
    ],
)
def test_part_of_a_rank(tmp_path: Path, environment: dict[str, str], local_processes: int | None, cpus: int) -> None:
    assert usable_cpus(local_processes, environment, machine(tmp_path)) == cpus


@pytest.mark.parametrize(
    ("cgroup", "files", "free"),
    [
        ("", {}, None),
        ("0::/", {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {8 * GIB // 1024} kB"}, 8 * GIB),
        (
            "0::/a",
            {
                "proc/meminfo": f"MemAvailable: {8 * GIB // 1024} kB",
                "sys/fs/cgroup/memory.max": "max",
                "sys/fs/cgroup/memory.current": "1",
                "sys/fs/cgroup/a/memory.max": str(4 * GIB),
                "sys/fs/cgroup/a/memory.current": str(3 * GIB),
                "sys/fs/cgroup/a/memory.stat": f"anon 7\ninactive_file {GIB}",
            },
            2 * GIB,
        ),
        (
            "4:memory:/job",
            {
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(4 * GIB),
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(GIB),
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
            },
            3 * GIB,
        ),
    ],
)
def test_free_memory(tmp_path: Path, cgroup: str, files: dict[str, str], free: int | None) -> None:
    assert usable_memory(machine(tmp_path, cgroup, **files)) == free


def test_this_machine() -> None:
    assert usable_cpus() >= 1
    assert (usable_memory() or 1) > 0
