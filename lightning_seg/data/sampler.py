"""Which process sees which sample: training without remainders, evaluation without repeats."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Dataset, DistributedSampler


class Draw(NamedTuple):
    """What a training sample is asked by: all that its augmentation may depend on, but for the seed."""

    sample: int
    epoch: int
    position: int


class TrainSampler(DistributedSampler[Draw]):
    """A shuffled epoch in whole global batches, the same order for any number of processes.

    Positions ``0, 1, 2 …`` of the epoch go round the ranks in turn, so that the union of all ranks' n-th batches
    is the same set of samples whatever the number of ranks, at the same global batch size.

    Args:
        dataset: anything with a length.
        num_replicas: number of processes.
        rank: of this process.
        seed: with the epoch, decides the order.
        batch_size: per process; samples that fill no whole global batch are left out of this epoch.
    """

    def __init__(self, dataset: Dataset[object], *, num_replicas: int, rank: int, seed: int, batch_size: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed, drop_last=True)
        self.length = len(dataset)  # type: ignore[arg-type]  # Dataset declares no length
        global_batch = batch_size * num_replicas
        self.num_samples = self.length // global_batch * batch_size
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.length, generator=generator).tolist()
        for position in range(self.rank, self.total_size, self.num_replicas):
            yield Draw(order[position], self.epoch, position)


class EvaluationSampler(DistributedSampler[int]):
    """Every sample exactly once over all processes: no padding, no repeats; ranks may be empty.

    A subclass of ``DistributedSampler``, because Lightning replaces any other by one that repeats samples.
    """

    def __init__(self, dataset: Dataset[object], *, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.total_size = len(dataset)  # type: ignore[arg-type]  # Dataset declares no length
        self.num_samples = len(range(self.rank, self.total_size, self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, self.total_size, self.num_replicas))
