"""Finds who started the processes of a run, and what is wrong with them, before any of them waits for the others."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_seg.waiting import within

Launcher = Literal["Slurm", "torchrun", "Lightning", "variables", "another"]

_RESOLVE_SECONDS = 4.0
_PROCESSES_PER_CPU = 4
"""A few processes may share a CPU, to try out a run of many processes; more are a mistake."""

_HIDES_SLURM = ("bash", "interactive")
"""Names of Slurm jobs in which Lightning ignores Slurm."""


@dataclass(frozen=True)
class Processes:
    """The processes that ``trainer`` asks for.

    Attributes:
        devices: processes on each machine.
        nodes: machines.
        kind: ``cpu`` or ``gpu``; "" for other accelerators, which are not checked.
        available: devices of that kind on this machine.
    """

    devices: int
    nodes: int = 1
    kind: Literal["cpu", "gpu", ""] = "cpu"
    available: int = 1

    @property
    def count(self) -> int:
        return self.devices * self.nodes

    def __str__(self) -> str:
        return f"trainer.devices {self.devices} × trainer.num_nodes {self.nodes} = {self.count}"


def find_launcher(environment: Mapping[str, str]) -> Launcher:
    """Find who started this process, by Lightning's rules; ``Lightning`` if it starts the other processes itself."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return "torchrun"
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in _HIDES_SLURM:
        return "Slurm"
    if "LSB_JOBID" in environment or "OMPI_COMM_WORLD_SIZE" in environment:
        return "another"
    return "variables" if "LOCAL_RANK" in environment else "Lightning"


def late_rank(environment: Mapping[str, str], processes: Processes) -> int | None:
    """The rank of a process if machines are started one by one; None if Lightning knows it from the start.

    Before the trainer exists, Lightning takes the first process of every such machine for the first of all.
    """
    by_machine = processes.nodes > 1 and "RANK" not in environment
    if not by_machine or find_launcher(environment) not in ("Lightning", "variables"):
        return None
    reader = _Variables(environment)
    return _node_rank(reader) * processes.devices + (reader.number("LOCAL_RANK") or 0)


def describe_launch(environment: Mapping[str, str], processes: Processes) -> str:
    """Say in one line who started the processes."""
    launcher = find_launcher(environment)
    if launcher == "Slurm":
        job, tasks, nodes = (environment.get(f"SLURM_{name}", "?") for name in ("JOB_ID", "NTASKS", "NNODES"))
        return f"Slurm job {job}: {tasks} tasks on {nodes} nodes"
    if launcher in ("torchrun", "variables"):
        return f"{launcher}: rank {environment.get('RANK', '?')} of {environment.get('WORLD_SIZE', '?')}"
    if launcher == "another":
        return "LSF or MPI: not checked"
    return "not by Slurm or torchrun: one process" if processes.count == 1 else "Lightning, on this machine"


def launch_problems(environment: Mapping[str, str], processes: Processes) -> list[str]:
    """Every reason why the processes would wait for each other in vain, or are not those that were asked for."""
    launcher = find_launcher(environment)
    reader = _Variables(environment)
    if launcher == "Slurm":
        _check_slurm(reader, processes)
    elif launcher != "another":
        hidden = reader.number("SLURM_STEP_NUM_TASKS") or 1
        if launcher == "Lightning" and hidden > 1:
            reader.problems.append(
                f"srun started {hidden} tasks, but SLURM_JOB_NAME is {environment.get('SLURM_JOB_NAME')!r}. Under that "
                "name Lightning ignores Slurm, and each task would train alone: give srun --job-name=train"
            )
        _check_ranks(reader, processes, launcher)
    if processes.count > 1 and not reader.problems:
        _check_main_address(reader, processes, launcher)
    return reader.problems


def device_problems(environment: Mapping[str, str], processes: Processes) -> list[str]:
    """Why this machine cannot give the devices; empty if it can."""
    wanted, available = processes.devices, processes.available
    if processes.kind == "gpu" and wanted > available:
        shown = environment.get("CUDA_VISIBLE_DEVICES")
        why = "" if shown is None else f" (CUDA_VISIBLE_DEVICES is {shown!r})"
        slurm = ", with Slurm by --gpus-per-node, not by --gpus-per-task" if "SLURM_JOB_ID" in environment else ""
        return [
            f"trainer.devices asks for {wanted} GPUs, but this process sees {available}{why}: lower trainer.devices, "
            f"or ask for more{slurm}"
        ]
    # Slurm may have bound each task to its own CPUs.
    shared = processes.kind == "cpu" and find_launcher(environment) != "Slurm"
    if shared and wanted > _PROCESSES_PER_CPU * available:
        return [f"trainer.devices asks for {wanted} processes, but this machine has {available} CPUs: lower it"]
    return []


class _Variables:
    """Reads numbers from environment variables, and collects what is wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.problems: list[str] = []

    def number(self, name: str) -> int | None:
        text = self.environment.get(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            self.problems.append(f"{name} is {text!r}, but a whole number is expected")
            return None


def _node_rank(reader: _Variables) -> int:
    return reader.number("NODE_RANK" if "NODE_RANK" in reader.environment else "GROUP_RANK") or 0


def _check_slurm(reader: _Variables, processes: Processes) -> None:
    problems = reader.problems
    tasks, nodes = reader.number("SLURM_NTASKS"), reader.number("SLURM_NNODES")
    per_node, rank = reader.number("SLURM_NTASKS_PER_NODE"), reader.number("SLURM_PROCID")
    remedy = (
        f"submit with --nodes={processes.nodes} --ntasks-per-node={processes.devices}, or set trainer.num_nodes and "
        "trainer.devices to what Slurm gives"
    )
    if tasks is not None and tasks != processes.count:
        problems.append(f"SLURM_NTASKS is {tasks}, but {processes} processes: {remedy}")
    elif nodes is not None and nodes != processes.nodes:
        problems.append(f"SLURM_NNODES is {nodes}, but trainer.num_nodes is {processes.nodes}: {remedy}")
    if per_node is not None and per_node != processes.devices:
        problems.append(f"SLURM_NTASKS_PER_NODE is {per_node}, but trainer.devices is {processes.devices}: {remedy}")
    if tasks is None or tasks < 2:
        return
    if "SLURM_NTASKS_PER_NODE" not in reader.environment:
        problems.append(
            f"SLURM_NTASKS is {tasks}, but SLURM_NTASKS_PER_NODE is not set: "
            f"submit with --ntasks-per-node={processes.devices}, not with --ntasks"
        )
    if rank is None or "SLURM_LOCALID" not in reader.environment or "SLURM_STEP_ID" not in reader.environment:
        problems.append(
            f"SLURM_NTASKS is {tasks}, but srun did not start this process, so it would wait for the others: put srun "
            "before the command (or SLURM_JOB_NAME=interactive, for a run without Slurm)"
        )
    elif rank >= tasks:
        problems.append(f"SLURM_PROCID is {rank}, but must be below SLURM_NTASKS, which is {tasks}")


def _check_ranks(reader: _Variables, processes: Processes, launcher: Launcher) -> None:
    problems, environment = reader.problems, reader.environment
    rank, world, local = (reader.number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    node = _node_rank(reader)
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK") if launcher == "torchrun" or "RANK" in environment else ()
    if missing := [name for name in needed if name not in environment]:
        there = ", ".join(f"{name} {environment[name]}" for name in needed if name in environment)
        problems.append(
            f"{' and '.join(missing)} missing beside {there or 'TORCHELASTIC_RUN_ID'}: let torchrun set all of RANK, "
            "WORLD_SIZE and LOCAL_RANK, or unset them"
        )
    if rank is not None and world is not None and not 0 <= rank < world:
        problems.append(f"RANK is {rank}, but must be from 0 to WORLD_SIZE - 1, which is {world - 1}")
    if world is not None and world != processes.count:
        problems.append(
            f"WORLD_SIZE is {world}, but {processes} processes: start that many (torchrun --nnodes {processes.nodes} "
            f"--nproc_per_node {processes.devices}), or set trainer.devices and trainer.num_nodes to what is started"
        )
    elif local is not None and not 0 <= local < processes.devices:
        problems.append(
            f"LOCAL_RANK is {local}, but must be from 0 to trainer.devices - 1, which is {processes.devices - 1}"
        )
    elif launcher == "variables" and None not in (rank, local) and rank != (mine := node * processes.devices + local):  # type: ignore[operator]
        problems.append(
            f"RANK is {rank}, but NODE_RANK {node} × trainer.devices {processes.devices} + LOCAL_RANK {local} is {mine}"
        )


def _check_main_address(reader: _Variables, processes: Processes, launcher: Launcher) -> None:
    environment = reader.environment
    address, port = environment.get("MASTER_ADDR"), reader.number("MASTER_PORT")
    together = launcher in ("variables", "torchrun") or (launcher == "Lightning" and processes.nodes > 1)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if together and missing:
        reader.problems.append(
            f"{' and '.join(missing)} not set, but {processes.count} processes need it to find each other: start them "
            "by srun or torchrun, or set the address and a free port of the first machine"
        )
    if launcher == "Lightning" and processes.nodes > 1 and "NODE_RANK" not in environment:
        reader.problems.append(
            f"trainer.num_nodes is {processes.nodes}, but NODE_RANK does not say which of them this machine is: start "
            "by srun or torchrun"
        )
    if port is not None and not 0 < port < 65536:
        reader.problems.append(f"MASTER_PORT is {port}, but must be from 1 to 65535")
    source = "MASTER_ADDR"
    if address is None and launcher == "Slurm":
        from pytorch_lightning.plugins.environments import SLURMEnvironment

        source = "the first node of SLURM_NODELIST"
        address = SLURMEnvironment.resolve_root_node_address(environment.get("SLURM_NODELIST", "127.0.0.1"))
    if address is not None and (reason := _unresolvable(address)):
        reader.problems.append(
            f"{source} is {address!r}, which cannot be resolved here ({reason}): set MASTER_ADDR to the name or "
            "address of the first machine"
        )


def _unresolvable(address: str) -> str | None:
    """Why a name has no address, also if the name server does not answer; None if it has one."""

    def resolve() -> str | None:
        try:
            socket.getaddrinfo(address, None)
        except OSError as error:
            return error.strerror or str(error)
        except UnicodeError as error:
            return str(error)
        return None

    outcome = within(_RESOLVE_SECONDS, resolve)
    return outcome[0] if outcome else f"no answer in {_RESOLVE_SECONDS:.0f} s"
