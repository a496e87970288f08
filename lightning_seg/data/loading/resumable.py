"""Lets the epochs of a data module go on inside their order, where a checkpoint left them."""

from typing import Any

import pytorch_lightning as pl

from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.loading.position import EpochPosition, digest_of_names
from lightning_seg.machine import usable_cpus

MAX_DEFAULT_WORKERS = 16


class ResumableDataModule(pl.LightningDataModule):
    """Tells loaders about the run: its processes, and how far it is in an epoch.

    Attributes:
        datasets: by split.
        batch_size: training samples per process and step.
        num_workers: loading processes per training process; None: by the CPUs that fall to it.
        seed: of the order.
        sampler: how training samples are drawn: ``shuffle`` or ``rare_class``.
        position: how far the run is in the order of an epoch.
    """

    batch_size: int
    num_workers: int | None
    seed: int
    sampler: str

    def __init__(self) -> None:
        super().__init__()
        self.datasets: dict[str, SegmentationDataset] = {}
        self.position = EpochPosition()
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
        return {"seed": self.seed, "data.sampler": self.sampler, "the samples of data.train": self._names}

    def _processes(self) -> tuple[int, int]:
        """How many training processes there are, and the number of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _workers(self) -> int:
        if self.num_workers is not None:
            return self.num_workers
        local = self.trainer.num_devices if self.trainer is not None else None
        return min(usable_cpus(local), MAX_DEFAULT_WORKERS)
