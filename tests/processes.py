"""Several processes in one gloo group, for tests of what must not depend on their number."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing


def run_processes(count: int, work: Callable[[int, Path], None], folder: Path) -> None:
    """Call ``work(rank, folder)`` in ``count`` processes that share a default process group.

    They are forks of one server that has imported the module of ``work``: imports cost more than the work.
    """
    multiprocessing.set_forkserver_preload([work.__module__])
    torch.multiprocessing.start_processes(_join, args=(count, work, folder), nprocs=count, start_method="forkserver")


def _join(rank: int, count: int, work: Callable[[int, Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    work(rank, folder)
    dist.barrier()
    dist.destroy_process_group()
