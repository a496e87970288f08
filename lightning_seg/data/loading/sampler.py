"""Decides which process sees which sample: training has no remainder, evaluation no repeats."""

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

from lightning_seg.errors import ConfigError

TEMPERATURE = 0.01
MIN_PIXELS = 3000
"""Settings of rare-class sampling, as DAFormer trains (``class_temp`` and ``min_pixels`` of its configs)."""


class Draw(NamedTuple):
    """What a training sample is asked by: everything that its augmentation depends on, except the seed."""

    sample: int
    epoch: int
    position: int


class TrainSampler(DistributedSampler[Draw]):
    """Shuffles an epoch, in whole global batches and in the same order for any number of processes.

    Positions ``0, 1, 2 …`` of the epoch go round the ranks in turn, so that the union of all ranks' n-th batches
    is the same set of samples whatever the number of ranks, at the same global batch size.

    Args:
        dataset: anything with a length.
        num_replicas: number of processes.
        rank: of this process.
        seed: with the epoch, decides the order.
        batch_size: per process; samples that fill no whole global batch are left out of this epoch.
        samples_done: how many samples of the epoch's order are done already in a resumed run; asked when an epoch
            begins. They are left out, and the others are dealt in whole global batches; the length stays that of the
            whole epoch.
        locality: above 1, the order of an epoch goes through blocks of so many neighbouring samples, which are shuffled
            as blocks and each in itself. All ranks read in one block at a time.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        *,
        num_replicas: int,
        rank: int,
        seed: int,
        batch_size: int,
        samples_done: Callable[[], int] = lambda: 0,
        locality: int = 1,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed, drop_last=True)
        self.length = len(dataset)  # type: ignore[arg-type]  # Dataset declares no length
        self.global_batch = batch_size * num_replicas
        self.num_samples = self.length // self.global_batch * batch_size
        self.total_size = self.num_samples * num_replicas
        self.samples_done = samples_done
        self.locality = locality

    def order(self) -> list[int]:
        """Sample of each position of this epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        blocks = torch.randperm(-(-self.length // self.locality), generator=generator)
        if self.locality == 1:
            return list(map(int, blocks.tolist()))
        within = torch.rand(self.length, generator=generator, dtype=torch.float64) / 2  # added, it never reaches 1
        places = blocks.repeat_interleave(self.locality)[: self.length] + within
        return list(map(int, places.argsort().tolist()))

    def __iter__(self) -> Iterator[Draw]:
        order = self.order()
        first = self.samples_done()
        left = (self.length - first) // self.global_batch * self.global_batch
        for position in range(first + self.rank, first + left, self.num_replicas):
            yield Draw(order[position], self.epoch, position)


class OverfitSampler(TrainSampler, SequentialSampler):  # type: ignore[misc]  # whose samples are plain numbers
    """Gives the first samples in order, with one augmentation in every epoch: for ``trainer.overfit_batches``.

    It is a ``SequentialSampler``: Lightning replaces any other by one that repeats samples to fill all processes.
    """

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""

    def order(self) -> list[int]:
        return list(range(self.length))


class RareClassSampler(TrainSampler):
    """Draws a class by its rarity, then any sample that shows it, with replacement; as long as :class:`TrainSampler`.

    DAFormer's rare-class sampling (Hoyer et al., CVPR 2022, arXiv 2111.14887, section 3.3), with its temperature and
    its smallest number of pixels: class c, which covers the part f of all labelled pixels, is drawn with a probability
    proportional to ``exp((1 - f) / temperature)``. Classes that no sample shows are never drawn.

    Args:
        dataset: anything with a length.
        class_pixels: (N, C) pixels of each class in each sample.
        temperature: the lower, the more often rare classes are drawn.
        min_pixels: how many pixels of a class a sample must have to show it; one, where no sample has as many.
        settings: the other arguments of :class:`TrainSampler`. The seed decides the draws of an epoch.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        class_pixels: NDArray[np.int64],
        *,
        temperature: float = TEMPERATURE,
        min_pixels: int = MIN_PIXELS,
        **settings: Any,
    ) -> None:
        super().__init__(dataset, **settings)
        self.probabilities = rare_class_probabilities(class_pixels.sum(axis=0), temperature)
        enough = class_pixels >= min_pixels
        shows = np.where(enough.any(axis=0), enough, class_pixels > 0)
        self.samples_of_class = [np.flatnonzero(column) for column in shows.T]

    def order(self) -> list[int]:
        # A stream of its own: the augmentation of a position is seeded with (seed, epoch, position).
        entropy = np.random.SeedSequence([self.seed, self.epoch], spawn_key=(0,))
        of_class, of_sample = np.random.default_rng(entropy).random((self.length, 2)).T
        bounds = np.cumsum(self.probabilities)
        classes = np.searchsorted(bounds, of_class * bounds[-1], side="right")
        return [
            int(self.samples_of_class[index][int(place * len(self.samples_of_class[index]))])
            for index, place in zip(classes, of_sample, strict=True)
        ]


def rare_class_probabilities(pixels: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    """``exp((1 - f) / temperature)`` of each class, normalised; f is its part of all pixels. Absent classes get 0.

    Args:
        pixels: (C,) of each class, at least one of them above 0.
        temperature: the lower, the more the rarest class prevails.

    >>> rare_class_probabilities(np.array([900, 100, 0]), 0.5).round(3)
    array([0.168, 0.832, 0.   ])
    """
    exponents = -pixels / pixels.sum() / temperature
    weights = np.where(pixels > 0, np.exp(exponents - exponents[pixels > 0].max()), 0.0)
    return np.asarray(weights / weights.sum())


class EvaluationSampler(DistributedSampler[int], SequentialSampler):
    """Every sample exactly once over all processes: no padding, no repeats; ranks may be empty.

    A batch holds neighbours, and goes to a process as a whole: what goes through the network together, and so how it is
    rounded, does not depend on the number of processes, nor on what is left out.

    A subclass of ``DistributedSampler``, because Lightning replaces any other by one that repeats samples, and of
    ``SequentialSampler``, because ``trainer.overfit_batches`` does so with all that are not sequential.

    Args:
        dataset: anything with a length.
        num_replicas: number of processes.
        rank: of this process.
        batch_size: samples of a batch.
        left_out: positions of samples that are not wanted; a batch of which any sample is wanted comes as a whole.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        *,
        num_replicas: int,
        rank: int,
        batch_size: int = 1,
        left_out: Collection[int] = (),
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.total_size = len(dataset)  # type: ignore[arg-type]  # Dataset declares no length
        starts = range(0, self.total_size, batch_size)
        batches = [range(start, min(start + batch_size, self.total_size)) for start in starts]
        wanted = [batch for batch in batches if any(position not in left_out for position in batch)]
        self._batches = wanted[rank::num_replicas]
        self.num_samples = sum(map(len, self._batches))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._batches)


def make_train_sampler(
    dataset: Dataset[object], *, class_pixels: NDArray[np.int64] | None, overfit: bool, **settings: Any
) -> TrainSampler:
    """The sampler of a training.

    Args:
        dataset: anything with a length.
        class_pixels: as of :class:`RareClassSampler`, which is chosen where they are given.
        overfit: whether the same batches come in every epoch.
        settings: as of :class:`TrainSampler`.
    """
    if overfit:
        return OverfitSampler(dataset, **settings)
    if class_pixels is None:
        return TrainSampler(dataset, **settings)
    return RareClassSampler(dataset, class_pixels, **settings)


def batch_problem(samples: int, batch_size: int, processes: int) -> str | None:
    """Say why training samples fill no batch; None if they fill one.

    Args:
        samples: how many there are.
        batch_size: per process.
        processes: of all machines.
    """
    if samples >= batch_size * processes:
        return None
    return (
        f"data.train has {samples} samples, fewer than one batch of {batch_size} on each of {processes} processes: "
        "lower data.batch_size"
    )


def choose_locality(locality: int | None, sampler: str) -> int:
    """Make ``data.locality`` what :class:`TrainSampler` takes.

    Raises:
        ConfigError: if it is no number of samples, or another sampler has no use for it.
    """
    if locality is not None and locality < 1:
        raise ConfigError(f"data.locality is {locality}, but must be at least 1, or null to shuffle all samples")
    if locality is not None and locality > 1 and sampler != "shuffle":
        raise ConfigError(
            f"data.locality: {locality} says how data.sampler: shuffle goes through the samples, but data.sampler: "
            f"{sampler} draws each from all of them: leave one of the two out"
        )
    return locality or 1
