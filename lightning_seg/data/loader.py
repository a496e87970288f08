"""The data loader: batches as lists, errors without a worker's stack trace, and no rank without a batch."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_seg.errors import DataError
from lightning_seg.structures import Batch


class _ErrorsAsItems(Dataset[dict[str, Any] | DataError]):
    """Hands a bad sample on as a value: raised in a worker, it would reach the user inside torch's stack trace."""

    def __init__(self, dataset: Dataset[dict[str, Any]]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> dict[str, Any] | DataError:
        try:
            return self.dataset[key]
        except DataError as error:
            return error

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # Dataset declares no length


def _collate(items: list[dict[str, Any] | DataError]) -> Batch | DataError:
    for item in items:
        if isinstance(item, DataError):
            return item
    return cast(Batch, items)


class SegmentationLoader(DataLoader[Any]):
    """Yields batches as Detectron2 wants them: a list of samples, which may differ in size.

    A process without samples gets one empty batch, so that it joins every collective call of an evaluation.
    Built by :func:`build_loader`; the constructor is torch's, because Lightning builds the loader again from it.

    Raises:
        DataError: from iteration, with the message of the first bad sample.
    """

    def __len__(self) -> int:
        return max(1, super().__len__())

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch declares its own iterator class
        empty = True
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                raise batch
            empty = False
            yield batch
        if empty:
            yield []


def build_loader(
    dataset: Dataset[dict[str, Any]], sampler: Sampler[Any], *, batch_size: int, num_workers: int
) -> SegmentationLoader:
    """A loader over ``dataset`` in the order of ``sampler``; ``batch_size`` samples a process."""
    return SegmentationLoader(
        _ErrorsAsItems(dataset),
        sampler=sampler,
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_collate,
    )
