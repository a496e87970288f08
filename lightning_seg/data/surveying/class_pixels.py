"""Counts the pixels of each class in each mask."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.loading.loader import ErrorsAsItems, prepare_worker, warn_of_unreadable
from lightning_seg.data.loading.ranks import gather
from lightning_seg.data.reading import USUAL, ReadingRules, read_header, read_mask
from lightning_seg.data.stored import read_labels
from lightning_seg.errors import DataError, UnreadableError
from lightning_seg.structures import Annotations, Sample


class ClassPixels(Dataset[NDArray[np.int64]]):
    """Counts the pixels of each class, (C,), in every sample.

    Args:
        samples: with masks.
        tables: what they store, by the source of a sample.
        skip_unreadable: count nothing in a sample that cannot be read, instead of refusing it.
        rules: what may be read.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tables: Sequence[LabelTable],
        *,
        skip_unreadable: bool = False,
        rules: ReadingRules = USUAL,
    ) -> None:
        self.samples = samples
        self.tables = tables
        self.num_classes = tables[0].info.num_classes
        self.skip_unreadable = skip_unreadable
        self.rules = rules

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        sample = self.samples[index]
        table = self.tables[sample.source]
        if isinstance(sample.mask, Annotations):
            size = sample.mask.size or read_header(sample.image, "image", self.rules).upright
            ids = read_labels(sample, size, table, self.rules)
        else:
            assert sample.mask is not None
            ids = table.decode(read_mask(sample.mask, self.rules), sample.mask)
        counted = ids[(ids >= 0) & (ids < self.num_classes)]
        return np.bincount(counted, minlength=self.num_classes)


def count_together(pixels: ClassPixels, world_size: int, rank: int, num_workers: int) -> NDArray[np.int64]:
    """Count all samples, (N, C), and give the counts to every training process; each counts a part.

    Raises:
        DataError: if a mask cannot be read, or no pixel of any is labelled.
    """
    mine = range(rank, len(pixels), world_size)
    counted = np.empty((len(pixels), pixels.num_classes), np.int64)
    for first, part in enumerate(gather(lambda: count_class_pixels(pixels, mine, num_workers))):
        counted[first::world_size] = part
    if not counted.any():
        raise DataError("data.sampler is rare_class, but no pixel of data.train is labelled")
    return counted


def count_class_pixels(pixels: ClassPixels, indices: Sequence[int], num_workers: int) -> NDArray[np.int64]:
    """Count some samples, (N, C), in several processes; a bar shows how far they are.

    Raises:
        DataError: if a mask cannot be read.
    """
    loader: Iterable[Any] = DataLoader(
        ErrorsAsItems(pixels),
        sampler=indices,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=prepare_worker,
    )
    rows = []
    silent = rank_zero_only.rank != 0  # type: ignore[attr-defined]  # set by Lightning
    for row in track(loader, "Counting the pixels of each class", total=len(indices), disable=silent):
        if isinstance(row, UnreadableError) and pixels.skip_unreadable:
            warn_of_unreadable(str(row))
            rows.append(np.zeros(pixels.num_classes, np.int64))
        elif isinstance(row, DataError):
            raise row
        else:
            rows.append(row)
    return np.array(rows, np.int64).reshape(len(indices), pixels.num_classes)


def _as_it_is(item: Any) -> Any:
    return item
