"""Keeps decoded samples in memory that all processes of a machine share: ``data.cache: ram``."""

import math
import mmap
import os
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.data.labels.table import Ids
from lightning_seg.data.loading.ranks import gather, this_rank
from lightning_seg.data.reading import USUAL, ReadingRules, read_header
from lightning_seg.data.reading.rules import KEPT_TYPES
from lightning_seg.errors import ConfigError, UnreadableError
from lightning_seg.machine import usable_memory
from lightning_seg.structures import Sample

GIB = 2**30
_PART_OF_FREE = 0.9
"""The part of the free memory that the cache may take; the rest is for the processes themselves."""
_READERS_OF_HEADERS = 16


class SampleCache:
    """Keeps images and class ids of samples once they are decoded.

    It is a file without a name, in memory. Loading processes inherit it or are sent it, other ranks of the machine open
    it, and it is gone with the last of them. It takes memory only for the samples that are in it.

    The file holds how many samples there are, the bytes of an id, the channels of an image, the place of its type among
    :data:`~lightning_seg.data.reading.rules.KEPT_TYPES`, where each sample's pixels end, and its height and width,
    which are 0 until it is there; then image and ids of one sample after the other. Two processes that decode a sample
    at the same time write the same bytes.

    Args:
        file: descriptor, from :func:`create` or another process.
    """

    def __init__(self, file: int) -> None:
        self._file = os.fdopen(file, "r+b")
        self._map = mmap.mmap(file, os.fstat(file).st_size)
        count, id_bytes, self._channels, kind = np.frombuffer(self._map, np.int64, 4).tolist()
        self._ids_dtype = np.dtype(np.uint8 if id_bytes == 1 else np.int32)
        self._dtype = np.dtype(KEPT_TYPES[kind])
        self._ends = np.frombuffer(self._map, np.int64, count + 1, 32)
        self._sizes = np.frombuffer(self._map, np.int64, 2 * count, 32 + self._ends.nbytes).reshape(count, 2)

    @classmethod
    def create(cls, pixels: Sequence[int], id_bytes: int, channels: int, dtype: str = "uint8") -> "SampleCache":
        """An empty cache.

        Args:
            pixels: of each sample.
            id_bytes: of one class id.
            channels: of every image.
            dtype: NumPy's name of the type of every image.
        """
        header = 8 * (5 + 3 * len(pixels))
        of_pixel = channels * np.dtype(dtype).itemsize + id_bytes
        ends = np.cumsum([header, *(of_pixel * count for count in pixels)], dtype=np.int64)
        if hasattr(os, "memfd_create"):  # Linux: not bound by the size of /dev/shm, which containers keep small
            file = os.memfd_create("lightning_seg-samples")
        else:
            with tempfile.TemporaryFile() as unnamed:
                file = os.dup(unnamed.fileno())
        os.ftruncate(file, int(ends[-1]))
        os.pwrite(
            file, np.array([len(pixels), id_bytes, channels, KEPT_TYPES.index(dtype), *ends], np.int64).tobytes(), 0
        )
        return cls(file)

    @property
    def path(self) -> str:
        """The path by which other processes of this machine can open it while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._file.fileno()}"

    def get(self, index: int) -> tuple[NDArray[Any], Ids] | None:
        """Copies of a sample's image (H, W, C) and ids (H, W); None: not there yet."""
        height, width = self._sizes[index].tolist()
        if height == 0:
            return None
        image, ids = self._views(index, height, width)
        return image.copy(), ids.copy()

    def put(self, index: int, image: NDArray[Any], ids: Ids) -> None:
        """Keep a sample of the number of pixels that was given; one of 0 pixels, whose header is bad, is left out."""
        if self._ends[index] == self._ends[index + 1]:
            return
        kept_image, kept_ids = self._views(index, *ids.shape)
        kept_image[...] = image
        kept_ids[...] = ids
        self._sizes[index, 1] = ids.shape[1]
        self._sizes[index, 0] = ids.shape[0]  # last: now it is there

    def _views(self, index: int, height: int, width: int) -> tuple[NDArray[Any], Ids]:
        start = int(self._ends[index])
        pixels = height * width
        end_of_image = start + self._channels * self._dtype.itemsize * pixels
        assert end_of_image + pixels * self._ids_dtype.itemsize == self._ends[index + 1]
        # as bytes: wide values need not begin at a multiple of their size
        image = np.frombuffer(self._map, np.uint8, end_of_image - start, start).view(self._dtype)
        ids = np.frombuffer(self._map, np.uint8, pixels * self._ids_dtype.itemsize, end_of_image).view(self._ids_dtype)
        return image.reshape(height, width, self._channels), ids.reshape(height, width)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self._file.fileno()),)


def _received(file: Any) -> SampleCache:
    return SampleCache(file.detach())


def share_caches(
    samples: Sequence[Sequence[Sample]],
    id_bytes: Sequence[int],
    skip_unreadable: Sequence[bool],
    rules: ReadingRules = USUAL,
) -> list[SampleCache]:
    """Empty caches, one a data set, which all training processes of a machine share.

    Args:
        samples: of each data set, with masks.
        id_bytes: of each data set.
        skip_unreadable: of each data set: whether an image that cannot be read is passed over.
        rules: what images are.

    Raises:
        ConfigError: if they will not fit into memory.
        UnreadableError: if an image cannot be read.
    """
    machines = gather(_machine)
    first = machines.index(machines[this_rank()])
    caches: list[SampleCache] = []
    channels, dtype = rules.channels, rules.dtype or "uint8"
    of_image = channels * np.dtype(dtype).itemsize

    def create() -> list[str]:
        if first == this_rank():
            pixels = [_pixels(of_set, skip, rules) for of_set, skip in zip(samples, skip_unreadable, strict=True)]
            needed = sum(sum(counts) * (of_image + size) for counts, size in zip(pixels, id_bytes, strict=True))
            _check_memory(needed, sum(map(len, pixels)))
            caches.extend(
                SampleCache.create(counts, size, channels, dtype) for counts, size in zip(pixels, id_bytes, strict=True)
            )
        return [cache.path for cache in caches]

    paths = gather(create)[first]
    return caches or [SampleCache(os.open(path, os.O_RDWR)) for path in paths]


def _machine() -> str:
    """Tells machines, and containers on one machine, apart."""
    processes = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {processes.readlink() if processes.exists() else this_rank()}"


def _pixels(samples: Sequence[Sample], skip_unreadable: bool, rules: ReadingRules) -> list[int]:
    def count(index: int) -> int:
        try:
            return math.prod(read_header(samples[index].image, "image", rules).stored)
        except UnreadableError:
            if skip_unreadable:
                return 0
            raise

    with ThreadPoolExecutor(_READERS_OF_HEADERS) as readers:
        return list(readers.map(count, range(len(samples))))


def _check_memory(needed: int, count: int) -> None:
    free = usable_memory()
    if free is not None and needed > _PART_OF_FREE * free:
        raise ConfigError(
            f"data.cache: ram needs {needed / GIB:.1f} GiB for {count} decoded samples, but {free / GIB:.1f} GiB of "
            "memory are free here: leave data.cache out, or store smaller images"
        )
    known = "" if free is None else f" of the {free / GIB:.1f} GiB that are free"
    rank_zero_info(f"data.cache: ram will take {needed / GIB:.1f} GiB{known}, for {count} decoded samples")
