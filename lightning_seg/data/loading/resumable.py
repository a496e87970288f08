"""Makes the loaders of a data module, whose epochs go on inside their order, where a checkpoint left them."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.loading.loader import SegmentationLoader, build_loader
from lightning_seg.data.loading.position import EpochPosition, digest_of_names
from lightning_seg.data.loading.sampler import EvaluationSampler, batch_problem, make_train_sampler
from lightning_seg.errors import DataError
from lightning_seg.machine import usable_cpus

MAX_DEFAULT_WORKERS = 16


class ResumableDataModule(pl.LightningDataModule):
    """Makes a loader for each stage by the run's processes, and by how far it is in an epoch.

    Attributes:
        datasets: by split.
        batch_size: training samples per process and step.
        eval_batch_size: samples per process and step elsewhere.
        num_workers: loading processes per training process; None: by the CPUs that fall to it.
        seed: of the order.
        sampler: how training samples are drawn: ``shuffle`` or ``rare_class``.
        locality: within how many neighbours ``shuffle`` shuffles at a time; 1: within all.
        position: how far the run is in the order of an epoch.
        class_pixels: of each training sample, where ``sampler`` needs them.
        predicted: positions of samples of ``predict`` that are done already.
        failures: what this process could not predict, and why.
    """

    batch_size: int
    eval_batch_size: int
    num_workers: int | None
    seed: int
    sampler: str
    locality: int

    def __init__(self) -> None:
        super().__init__()
        self.datasets: dict[str, SegmentationDataset] = {}
        self.position = EpochPosition()
        self.class_pixels: NDArray[np.int64] | None = None
        self.predicted: Collection[int] = ()
        self.failures: list[str] = []
        self._names: str | None = None

    @property
    def global_batch(self) -> int:
        """Number of samples of a batch over all processes."""
        return self.batch_size * self._processes()[0]

    def state_dict(self) -> dict[str, Any]:
        if "train" not in self.datasets:  # a Trainer that has only evaluated writes a checkpoint
            return {}
        return self.position.state(self.global_batch, self._order())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position.load(state_dict)

    def order_problems(self, *, inside: bool) -> list[str]:
        """Why an epoch of the checkpoint that was loaded cannot go on, if it was written inside one, or not at all."""
        return self.position.problems(self._order(), inside=inside)

    def order_changes(self) -> list[str]:
        """Settings that an epoch's order depends on and that differ from the loaded checkpoint's."""
        return self.position.changes(self._order())

    def batches_begun(self, epoch: int, batches: int, limit: int, *, start: bool = False) -> int:
        """As of :meth:`lightning_seg.data.loading.position.EpochPosition.batches_begun`; ``start``: and go on there."""
        find = self.position.start_at if start else self.position.batches_begun
        return find(epoch, batches, limit=limit, global_batch=self.global_batch, length=len(self.datasets["train"]))

    def train_dataloader(self) -> SegmentationLoader:
        dataset = self.datasets["train"]
        world_size, rank = self._processes()
        if problem := batch_problem(len(dataset), self.batch_size, world_size):
            raise DataError(problem)
        sampler = make_train_sampler(
            dataset,
            class_pixels=self.class_pixels,
            overfit=self.trainer is not None and bool(self.trainer.overfit_batches),  # type: ignore[attr-defined]
            num_replicas=world_size,
            rank=rank,
            seed=self.seed,
            batch_size=self.batch_size,
            samples_done=self._samples_done,
            locality=self.locality,
        )
        return build_loader(dataset, sampler, batch_size=self.batch_size, num_workers=self._workers())

    def val_dataloader(self) -> SegmentationLoader | list[SegmentationLoader]:
        return self._evaluation_loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> SegmentationLoader:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> SegmentationLoader:
        return self._evaluation_loader("predict", self.predicted, self.failures)

    def _evaluation_loader(
        self, part: str, left_out: Collection[int] = (), failures: list[str] | None = None
    ) -> SegmentationLoader:
        (replicas, rank), size = self._processes(), self.eval_batch_size
        dataset = self.datasets[part]
        sampler = EvaluationSampler(dataset, num_replicas=replicas, rank=rank, batch_size=size, left_out=left_out)
        return build_loader(dataset, sampler, batch_size=size, num_workers=self._workers(), failures=failures)

    def _samples_done(self) -> int:
        """Where the order of the epoch starts: above 0 in a run that is resumed inside it."""
        if self.trainer is None or not self.trainer.training:
            return 0
        ready = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self.position.samples(self.trainer.current_epoch, ready, self.global_batch)

    def _order(self) -> dict[str, Any]:
        """All settings that an epoch's order depends on."""
        if self._names is None:
            self._names = digest_of_names(self.datasets["train"].samples)
        settings = {"seed": self.seed, "data.sampler": self.sampler, "data.locality": self.locality}
        return {**settings, "the samples of data.train": self._names}

    def _processes(self) -> tuple[int, int]:
        """How many training processes there are, and the number of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _workers(self) -> int:
        if self.num_workers is not None:
            return self.num_workers
        local = self.trainer.num_devices if self.trainer is not None else None
        return min(usable_cpus(local), MAX_DEFAULT_WORKERS)
