"""Who sees which sample."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch.utils.data import BatchSampler, Dataset

from lightning_seg.data.loading.sampler import (
    Draw,
    EvaluationSampler,
    OverfitSampler,
    RareClassSampler,
    TrainSampler,
    choose_locality,
    make_train_sampler,
    rare_class_probabilities,
)
from lightning_seg.errors import ConfigError


class Numbers(Dataset[Any]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


def shuffled(length: int, **where: Any) -> TrainSampler:
    return TrainSampler(Numbers(length), seed=5, **where)


def by_rarity(length: int, seed: int = 5, **where: Any) -> RareClassSampler:
    pixels = np.random.default_rng(length).integers(0, 5000, (length, 4)) // [1, 2, 10, 100]
    return RareClassSampler(Numbers(length), pixels, seed=seed, **where)


def batches(
    length: int, world_size: int, batch_size: int, epoch: int, make: Callable[..., TrainSampler] = shuffled
) -> list[set[Draw]]:
    """The union over ranks of every step's batch."""
    ranks = []
    for rank in range(world_size):
        sampler = make(length, num_replicas=world_size, rank=rank, batch_size=batch_size)
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


def nearby(length: int, seed: int = 5, locality: int = 8, **where: Any) -> TrainSampler:
    return TrainSampler(Numbers(length), seed=seed, locality=locality, **where)


ALONE: dict[str, Any] = {"num_replicas": 1, "rank": 0, "batch_size": 1}


@pytest.mark.parametrize("length", [5, 8, 24, 51, 200])
def test_locality_goes_through_shuffled_blocks(length: int) -> None:
    """Each sample once; the samples of a block one after the other, also those of the last and shorter one."""
    order = nearby(length, **ALONE).order()
    assert sorted(order) == list(range(length))
    blocks = [sample // 8 for sample in order]
    runs = [block for place, block in enumerate(blocks) if place == 0 or block != blocks[place - 1]]
    assert sorted(runs) == list(range(math.ceil(length / 8)))


def test_locality_deals_the_same_batches_to_any_number_of_processes() -> None:
    alone = batches(51, 1, 6, 2, nearby)
    assert alone == batches(51, 2, 3, 2, nearby) == batches(51, 3, 2, 2, nearby)
    assert len(alone) == 8
    steps = [{draw.sample // 8 for draw in step} for step in alone]
    assert max(map(len, steps)) <= 3  # the shorter block lies between two others, if at all


def test_locality_keeps_reads_near_and_is_no_fixed_order() -> None:
    """Half of all reads are within half a block of the one before; blocks and places in them are uniform."""
    sampler = nearby(640, locality=64, **ALONE)
    first_of_block, first_block, steps = np.zeros(64), np.zeros(10), []
    orders = []
    for epoch in range(300):
        sampler.set_epoch(epoch)
        orders.append(order := sampler.order())
        first_of_block[order[0] % 64] += 1
        first_block[order[0] // 64] += 1
        steps += np.abs(np.diff(order)).tolist()
    assert np.median(steps) < 32
    assert np.mean(np.array(steps) < 64) > 0.98
    assert first_block.min() > 12  # 30 expected: 3.5 standard deviations
    assert (first_of_block > 0).sum() > 55  # 300 draws of 64: 63.4 expected
    assert len({tuple(order) for order in orders}) == 300
    assert nearby(640, locality=64, **ALONE).order() == orders[0] != nearby(640, 6, 64, **ALONE).order()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (shuffled, [2, 9, 5, 0, 6, 3, 11, 8, 7, 1, 4, 10]),
        (nearby, [6, 7, 4, 0, 2, 5, 1, 3, 9, 10, 11, 8]),
        (by_rarity, [8, 7, 3, 11, 7, 6, 8, 8, 3, 5, 6, 6]),
    ],
)
def test_the_order_of_a_seed_stays_from_version_to_version(
    make: Callable[..., TrainSampler], expected: list[int]
) -> None:
    """A run that another version began goes on inside an epoch: in another order, samples would come twice."""
    sampler = make(12, **ALONE)
    sampler.set_epoch(1)
    assert sampler.order() == expected


def test_the_lowest_temperature_draws_the_rarest_class_alone() -> None:
    assert rare_class_probabilities(np.array([600, 400, 0]), 1e-5).tolist() == [0, 1, 0]


def test_locality_of_one_is_the_plain_shuffle() -> None:
    assert nearby(30, locality=1, **ALONE).order() == shuffled(30, **ALONE).order()


@pytest.mark.parametrize("processes", [1, 2])
def test_locality_goes_on_inside_an_epoch(processes: int) -> None:
    """From a place inside a block, dealt to another number of processes."""
    whole = list(nearby(50, **ALONE))
    where: dict[str, Any] = {"num_replicas": processes, "batch_size": 2, "samples_done": lambda: 13}
    rest = [draw for rank in range(processes) for draw in nearby(50, rank=rank, **where)]
    assert sorted(rest, key=lambda draw: draw.position) == whole[13 : 13 + 36]


@pytest.mark.parametrize(
    ("locality", "sampler", "fault"),
    [
        (0, "shuffle", "data.locality is 0, but must be at least 1, or null"),
        (-3, "rare_class", "data.locality is -3"),
        (64, "rare_class", "data.locality: 64 says how data.sampler: shuffle .* but data.sampler: rare_class draws"),
    ],
)
def test_locality_that_has_no_use_is_refused(locality: int, sampler: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        choose_locality(locality, sampler)
    assert [choose_locality(*given) for given in ((None, "rare_class"), (1, "rare_class"), (9, "shuffle"))] == [1, 1, 9]


def test_epochs_differ() -> None:
    orders = [[draw.sample for step in batches(30, 1, 1, epoch) for draw in step] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("length", [8, 17, 30])
def test_rare_classes_are_drawn_alike_for_any_number_of_processes(length: int) -> None:
    alone = batches(length, 1, 8, 2, by_rarity)
    assert alone == batches(length, 2, 4, 2, by_rarity) == batches(length, 8, 1, 2, by_rarity)
    assert len(alone) == length // 8
    seen = sorted((draw for step in alone for draw in step), key=lambda draw: draw.position)
    assert [draw.position for draw in seen] == list(range(len(seen)))
    more = by_rarity(length, num_replicas=1, rank=0, batch_size=1)
    more.set_epoch(2)
    assert list(more)[: len(seen)] == seen  # a position's draw does not depend on how many there are


def test_rare_classes_are_drawn_anew_by_epoch_and_seed() -> None:
    first, again, other_seed = (by_rarity(40, seed, num_replicas=1, rank=0, batch_size=1) for seed in (5, 5, 6))
    orders = [sampler.order() for sampler in (first, again, other_seed)]
    first.set_epoch(1)
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != first.order() != orders[2]


def test_draws_of_rare_classes_share_no_random_number_with_augmentation() -> None:
    """Which is seeded with (seed, epoch, position); NumPy takes (seed, epoch) for position 0."""
    sampler = RareClassSampler(Numbers(50), np.eye(50, dtype=np.int64), seed=5, **ALONE)
    drawn = np.array(sampler.order()) / 50  # of 50 equal classes, each in one sample
    for position in range(50):
        augmentation = np.random.default_rng([5, 0, position]).random((50, 2))[:, 0]
        assert np.abs(drawn - augmentation).max() > 0.5


def test_rare_classes_are_drawn_by_the_formula() -> None:
    """By DAFormer's equations 6 and 7, with loops: f of each class, P(c), then any image of those with enough of it."""
    pixels = np.zeros((6, 5), np.int64)
    pixels[:, 0] = 100_000
    pixels[1:4, 1] = [4000, 3000, 2999]  # the third shows too little of it
    pixels[4:, 2] = [20, 10]  # nobody shows enough
    pixels[0, 4] = 5000
    frequency = [int(pixels[:, index].sum()) / int(pixels.sum()) for index in range(5)]
    weights = [math.exp((1 - f) / 0.01) if f > 0 else 0.0 for f in frequency]
    chosen = [weight / sum(weights) for weight in weights]
    expected = np.zeros(6)
    for probability, samples in zip(chosen, [range(6), (1, 2), (4, 5), (), (0,)], strict=True):
        for sample in samples:
            expected[sample] += probability / len(samples)
    dataset = Numbers(6)
    sampler = RareClassSampler(dataset, pixels, num_replicas=1, rank=0, seed=0, batch_size=1)
    assert np.allclose(sampler.probabilities, chosen)
    drawn = np.zeros(6)
    for epoch in range(4000):
        sampler.set_epoch(epoch)
        for draw in sampler:
            drawn[draw.sample] += 1
    assert np.abs(drawn / drawn.sum() - expected).max() < 0.015  # 24 000 draws: 4.6 standard deviations


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_evaluation_sees_each_sample_once(world_size: int) -> None:
    samplers = [EvaluationSampler(Numbers(5), num_replicas=world_size, rank=rank) for rank in range(world_size)]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(5))
    assert all(len(sampler) == len(list(sampler)) for sampler in samplers)


@pytest.mark.parametrize("left_out", [set(), {0, 1, 2, 5}, set(range(10)), {9}])
def test_a_batch_of_an_evaluation_is_the_same_whoever_has_it(left_out: set[int]) -> None:
    """Whole batches of neighbours, each once; one is left out where all of it is."""
    whole = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    wanted = [batch for batch in whole if not left_out.issuperset(batch)]
    for replicas in (1, 2, 3, 5):
        found = []
        for rank in range(replicas):
            settings: Any = {"num_replicas": replicas, "rank": rank, "batch_size": 3, "left_out": left_out}
            sampler = EvaluationSampler(Numbers(10), **settings)
            batches = list(BatchSampler(sampler, 3, drop_last=False))
            assert sum(map(len, batches)) == len(sampler)
            found += batches
        assert sorted(found) == wanted


def test_the_sampler_of_a_training_is_the_one_asked_for() -> None:
    pixels = np.ones((5, 2), np.int64)
    asked: list[tuple[Any, bool, type]] = [
        (None, False, TrainSampler),
        (pixels, False, RareClassSampler),
        (pixels, True, OverfitSampler),
    ]
    for class_pixels, overfit, kind in asked:
        made = make_train_sampler(Numbers(5), class_pixels=class_pixels, overfit=overfit, seed=1, **ALONE)
        assert type(made) is kind
        assert len(list(made)) == 5
    made.set_epoch(3)
    assert list(made) == [Draw(place, 0, place) for place in range(5)]
