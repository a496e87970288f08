"""Who sees which sample."""

from typing import Any

import pytest
from torch.utils.data import Dataset

from lightning_seg.data.sampler import Draw, EvaluationSampler, TrainSampler


class Numbers(Dataset[Any]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


def batches(length: int, world_size: int, batch_size: int, epoch: int) -> list[set[Draw]]:
    """The union over ranks of every step's batch."""
    ranks = []
    for rank in range(world_size):
        sampler = TrainSampler(
            Numbers(length), num_replicas=world_size, rank=rank, seed=5, batch_size=batch_size
        )  # fmt: skip
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(sampler)
        ranks.append([draws[start : start + batch_size] for start in range(0, len(draws), batch_size)])
    return [set().union(*step) for step in zip(*ranks, strict=True)]


@pytest.mark.parametrize("length", [8, 17, 30])
def test_same_global_batches_for_any_number_of_processes(length: int) -> None:
    alone = batches(length, 1, 8, epoch=2)
    assert alone == batches(length, 2, 4, epoch=2) == batches(length, 4, 2, epoch=2) == batches(length, 8, 1, epoch=2)
    assert all(len(step) == 8 for step in alone)
    seen = [draw for step in alone for draw in step]
    assert len({draw.sample for draw in seen}) == len(seen)
    assert sorted(draw.position for draw in seen) == list(range(len(seen)))
    assert {draw.epoch for draw in seen} == {2}


def test_epochs_differ() -> None:
    orders = [[draw.sample for step in batches(30, 1, 1, epoch) for draw in step] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_evaluation_sees_each_sample_once(world_size: int) -> None:
    samplers = [EvaluationSampler(Numbers(5), num_replicas=world_size, rank=rank) for rank in range(world_size)]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(5))
    assert all(len(sampler) == len(list(sampler)) for sampler in samplers)
