"""Keeps a list of samples in one block of memory that all worker processes share."""

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from lightning_seg.structures import Sample


class Records(Sequence[Sample]):
    """A list of samples that takes the same memory for any number of workers.

    The plain equivalent is a list. But Python counts references inside its objects, so a forked worker that only looks
    at a list copies its memory page by page. Here the samples lie pickled in one tensor, which forked and spawned
    processes share, and each is unpickled when it is asked for. Paths are pickled as text, which is faster.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        packed = [pickle.dumps(_pack(sample), protocol=pickle.HIGHEST_PROTOCOL) for sample in samples]
        self._ends = torch.from_numpy(np.cumsum([0, *map(len, packed)], dtype=np.int64))
        self._bytes = torch.frombuffer(bytearray(b"".join(packed)) or bytearray(1), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start, end = self._ends.numpy()[place : place + 2]
        packed = self._bytes.numpy()[start:end].tobytes()
        name, image, mask, source, columns = pickle.loads(packed)  # its own, from above
        return Sample(
            name,
            Path(image) if isinstance(image, str) else image,
            Path(mask) if isinstance(mask, str) else mask,
            source,
            columns,
        )


def _pack(sample: Sample) -> tuple[Any, ...]:
    image, mask = sample.image, sample.mask
    return (
        sample.name,
        str(image) if isinstance(image, Path) else image,
        str(mask) if isinstance(mask, Path) else mask,
        sample.source,
        sample.columns,
    )
