"""Memory that four loading processes take over the records of a large data set, against one. Linux only.

Run: python benchmarks/records.py [--samples 100000]. Each side is a process of its own, with a loader whose workers are
forked, as Linux does by default, and look at all samples in random order; what counts is the proportional set size of
the process and its workers together. A plain list of the same samples is shown beside it.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path

from sections.figures import add_output, write_figures
from torch.utils.data import DataLoader, Dataset

from lightning_seg.data.loading.loader import prepare_worker
from lightning_seg.data.loading.records import Records
from lightning_seg.structures import Sample


class Names(Dataset[int]):
    """Looks at samples as a data set does, and leaves their pixels alone."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return len(self.samples[index].name)


def megabytes(process: int) -> float:
    """Proportional set size: of pages that n processes share, each counts one n-th."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(count: int, workers: int, shared: bool, answer: "Queue[float]") -> None:
    samples: Sequence[Sample] = [
        Sample(f"city/{number:07d}", Path(f"/data/images/city/{number:07d}.jpg"), Path(f"/data/masks/{number:07d}.png"))
        for number in range(count)
    ]
    dataset = Names(Records(samples) if shared else samples)
    del samples
    loader = DataLoader(
        dataset,
        batch_size=64,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="fork",
        worker_init_fn=prepare_worker,
    )
    batches = iter(loader)
    sum(1 for _ in batches)
    loading = [process.pid for process in multiprocessing.active_children() if process.pid]
    assert len(loading) == workers
    answer.put(megabytes(os.getpid()) + sum(map(megabytes, loading)))


def in_a_process_of_its_own(count: int, workers: int, *, shared: bool) -> float:
    """Megabytes of a process with a loader over ``count`` samples and ``workers`` workers, all together."""
    context = multiprocessing.get_context("spawn")
    answer: Queue[float] = context.Queue()
    process = context.Process(target=measure, args=(count, workers, shared, answer))
    process.start()
    found = answer.get(timeout=600)
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    add_output(parser)
    arguments = parser.parse_args()
    count, figures = arguments.samples, {}
    for name, shared in (("Records", True), ("a list", False)):
        one, four = (in_a_process_of_its_own(count, workers, shared=shared) for workers in (1, 4))
        figures[name] = four / one
        print(f"{name:8s} {figures[name]:.2f} times the memory with 4 workers ({four:.0f} MB) as with 1 ({one:.0f} MB)")
    write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
