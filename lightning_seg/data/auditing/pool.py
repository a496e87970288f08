"""Examines all samples, in as many processes as there are CPUs to use."""

import math
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import cv2
import torch

from lightning_seg.data.auditing.examine import Examination, examine
from lightning_seg.data.auditing.refused import values_of_refused
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.loading.records import Records
from lightning_seg.data.reading import ReadingRules
from lightning_seg.errors import DataError
from lightning_seg.machine import usable_cpus

_CHUNK = 8

Track = Callable[[Iterable[Examination], int], Iterable[Examination]]
"""Passes on a sequence of known length, and shows how far it is."""

_Split = tuple[Records, list[LabelTable], ReadingRules]

_splits: dict[str, _Split] = {}
"""The samples that a worker examines; set once, when it starts."""


def examine_all(listings: Mapping[str, Listing], track: Track, workers: int | None = None) -> Iterator[Examination]:
    """Examine every sample of every split, in order.

    Args:
        listings: by split.
        track: shows how far it is.
        workers: processes; None: as many as the CPUs that this one may use.

    Raises:
        DataError: if a process is killed, as for want of memory.
    """
    splits = {split: (Records(listing.samples), listing.tables, listing.rules) for split, listing in listings.items()}
    places = [(split, index) for split, (records, *_) in splits.items() for index in range(len(records))]
    workers = min(workers or usable_cpus(), math.ceil(len(places) / _CHUNK))
    if workers <= 1:
        with warnings.catch_warnings():
            _start(splits)
            yield from track(map(_examine_at, places), len(places))
        return
    with without_opencv_threads(), ProcessPoolExecutor(workers, initializer=_start, initargs=(splits, True)) as pool:
        try:
            # The workers start here, before a progress bar has a thread that a fork would cut off.
            yield from track(pool.map(_examine_at, places, chunksize=_CHUNK), len(places))
        except BrokenProcessPool:
            raise DataError(
                "a process that was reading the data was killed, perhaps for want of memory: give the audit more"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def without_opencv_threads() -> Iterator[None]:
    """Run OpenCV without threads: if a process with such threads forks, ``cv2.setNumThreads`` never returns there."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _start(splits: dict[str, _Split], alone: bool = False) -> None:
    _splits.clear()
    _splits.update(splits)
    warnings.simplefilter("ignore")  # what matters becomes a defect
    if alone:  # one CPU a process
        torch.set_num_threads(1)
        if multiprocessing.get_start_method() != "fork":  # a fork has it from its parent
            cv2.setNumThreads(1)


def _examine_at(place: tuple[str, int]) -> Examination:
    split, index = place
    records, tables, rules = _splits[split]
    sample = records[index]
    found = examine(sample, tables[sample.source], split, rules)
    if any(defect.kind == "unfit" for defect in found.defects):
        found.refused = values_of_refused(found.image, rules)
    return found
