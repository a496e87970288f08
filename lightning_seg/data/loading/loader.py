"""Loads batches as lists; errors come without a worker's stack trace, and every rank gets a batch."""

import contextlib
import ctypes
import functools
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_seg.errors import DataError
from lightning_seg.structures import Batch, Item

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt`` (malloc.h)."""

_SECONDS_AFTER_SIGTERM = 120
"""How long a loading process goes on; schedulers send SIGKILL earlier."""


class ErrorsAsItems(Dataset[Any]):
    """Hands a bad sample on as a value: raised in a worker, it would reach the user inside torch's stack trace.

    Args:
        dataset: what reads the samples.
        failures: list in which the loader notes bad samples, to leave them out of its batches; None: it raises.
    """

    def __init__(self, dataset: Dataset[Any], failures: list[str] | None = None) -> None:
        self.dataset = dataset
        self.failures = failures

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except DataError as error:
            return error

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # Dataset declares no length


def _as_they_are(items: list[Item | DataError]) -> list[Item | DataError]:
    return items


class SegmentationLoader(DataLoader[Any]):
    """Yields batches as Detectron2 wants them: a list of samples, which may differ in size.

    A process without samples gets one empty batch, so that it joins every collective call of an evaluation.
    Built by :func:`build_loader`; the constructor is torch's, because Lightning builds the loader again from it.
    Nothing happens before the first batch is asked for. The sampler asks Lightning how far a resumed run had come, and
    Lightning makes the iterator before it knows.

    Raises:
        DataError: from iteration, with the message of the first bad sample, unless ``failures`` are noted.
    """

    def __len__(self) -> int:
        return max(1, super().__len__())

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch declares its own iterator class
        empty = True
        for items in super().__iter__():
            batch = self._without_failures(items)
            for sample in batch:
                for message in sample.get("unreadable", ()):
                    warn_of_unreadable(message)
            empty = False
            yield batch
        if empty:
            yield []

    def _without_failures(self, items: list[Item | DataError]) -> Batch:
        batch: Batch = []
        failures: list[str] | None = self.dataset.failures  # type: ignore[attr-defined]  # of ErrorsAsItems
        for item in items:
            if not isinstance(item, DataError):
                batch.append(item)
            elif failures is None:
                self._end_workers()
                raise item
            else:
                failures.append(str(item))
                warnings.warn(f"{item} (passed over)", stacklevel=2)
        return batch

    def _end_workers(self) -> None:
        """End the loading processes while they can still be told to end.

        Later, the error holds the loader in a cycle. When that is collected, the queues are closed before torch writes
        into them that loading has ended. Torch then waits ten seconds for each process in vain, and Python waits at its
        own end.
        """
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]  # Lightning ends them with it, too
            self._iterator = None


@functools.cache
def warn_of_unreadable(message: str) -> None:
    """Say once a process what is passed over, and why."""
    warnings.warn(f"{message} (passed over: data.unreadable is skip)", stacklevel=2)


def prepare_worker(_: int = 0) -> None:
    """Make this process a loading process, which has one thread (there is one process a CPU) and keeps its memory.

    Otherwise, the C library gives the memory of each decoded image back to the system and asks for it again at the next
    image. That costs up to half as much as decoding.

    Schedulers signal all processes of a job, and a terminal sends Ctrl-C to all of them. The training process decides
    what follows and still needs its batches, so this process outlives SIGTERM for a while. It does not live for ever,
    since Python ends a stuck process by SIGTERM, too.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_AFTER_SIGTERM))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_memory()


def keep_memory() -> None:
    """Keep up to a quarter of a GiB of freed memory, in blocks of up to 32 MiB; only glibc can be told to."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # its upper limit
        libc.mallopt(_TRIM_THRESHOLD, 256 * 2**20)


def build_loader(
    dataset: Dataset[Item],
    sampler: Sampler[Any],
    *,
    batch_size: int,
    num_workers: int,
    failures: list[str] | None = None,
) -> SegmentationLoader:
    """Build a loader over ``dataset`` in the order of ``sampler``, with ``batch_size`` samples a process.

    Bad samples are noted in ``failures``, where it is given, and left out of their batch.
    """
    if num_workers == 0:
        keep_memory()
    return SegmentationLoader(
        ErrorsAsItems(dataset, failures),
        sampler=sampler,
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_as_they_are,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # of its own: loading draws nothing from the stream of training
    )
