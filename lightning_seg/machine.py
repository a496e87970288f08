"""Counts the CPUs and the memory that this process may use; a container, a scheduler and other ranks take some away."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path("/")


def usable_cpus(
    local_processes: int | None = None, environment: Mapping[str, str] = os.environ, root: Path = ROOT
) -> int:
    """Count the CPUs for one training process, at least 1.

    It is the least of three numbers, divided by the training processes that share it: the CPUs that the kernel lets the
    process run on, the quota of its cgroups (version 1 or 2), and what Slurm gave to its task
    (``SLURM_CPUS_PER_TASK``, else ``SLURM_CPUS_ON_NODE`` over ``SLURM_NTASKS_PER_NODE``).

    Args:
        local_processes: training processes on this machine; None: ``LOCAL_WORLD_SIZE``, which torchrun sets, or one.
        environment: of this process.
        root: where ``proc`` and ``sys`` are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _cpu_quotas(root):
        allowed = min(allowed, int(quota))
    sharing = local_processes or _number(environment, "LOCAL_WORLD_SIZE") or 1
    tasks = _number(environment, "SLURM_NTASKS_PER_NODE") or 1
    of_task = _number(environment, "SLURM_CPUS_PER_TASK")
    if of_task is None and (of_node := _number(environment, "SLURM_CPUS_ON_NODE")):
        of_task = of_node // tasks
    if of_task is not None:  # Slurm binds each task to its own CPUs
        allowed, sharing = min(allowed, of_task), -(-sharing // tasks)
    return max(1, allowed // sharing)


def usable_memory(root: Path = ROOT) -> int | None:
    """Count the bytes that the machine and the cgroups leave free for this process; None if that is unknown.

    Files that the kernel only caches count as free.
    """
    free = [
        int(line.split()[1]) * 1024
        for line in (_read(root / "proc/meminfo") or "").splitlines()
        if line.startswith("MemAvailable:")
    ]
    for folder in _cgroups(root, "memory"):
        for limit_name, used_name, cached_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _read(folder / limit_name), _read(folder / used_name)
            if limit is None or used is None or limit == "max":
                continue
            kept = dict(line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
            free.append(max(0, int(limit) - int(used) + int(kept.get(cached_name, 0))))
    return min(free, default=None)


def memory_of(device: Any) -> int | None:
    """Bytes that a ``torch.device`` has: all of a GPU's, those of the machine that are free; None: it is not known."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return usable_memory() if device.type == "cpu" else None


def _cpu_quotas(root: Path) -> Iterator[float]:
    """How many CPUs' time each cgroup around this process may use."""
    for folder in _cgroups(root, "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if (both := _read(folder / "cpu.max")) is not None:
            quota, period = both.split()
        if quota is not None and period is not None and quota not in ("max", "-1"):
            yield int(quota) / int(period)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroups and of those around them, of version 2 and of one controller of version 1.

    In a container, the folder may be the root of what is visible, although ``/proc`` names a longer path.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = base / path.lstrip("/")
        yield folder
        while folder != base:
            folder = folder.parent
            yield folder


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    return int(value) if value.isdecimal() and int(value) > 0 else None
