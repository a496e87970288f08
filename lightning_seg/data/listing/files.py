"""Lists the files that a split is made of, with sizes and digests, while a training runs."""

import csv
import gzip
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.data.archives.places import located
from lightning_seg.data.reading.storage import open_file
from lightning_seg.sources import AnyFile, name_below
from lightning_seg.structures import Annotations, Sample

COLUMNS = ("name", "image", "image_bytes", "image_digest", "labels", "labels_bytes", "labels_digest")

_END = 64 * 1024
_CHUNK = 1024 * 1024
_SHARE = 0.1
"""Share of one CPU's time that the thread takes."""

_STRETCH = 0.005
"""Seconds of work between two pauses."""

_Found = tuple[str, int | str, str]


def file_digest(path: AnyFile, whole: bool) -> tuple[int, str]:
    """Compute size in bytes, and 128 bits of BLAKE2b in hexadecimal digits.

    Args:
        path: of the file.
        whole: read all of it. Otherwise, only its first and last 64 KiB are read. With the size, they tell two
            compressed images apart, at a cost that does not grow with the file.

    Raises:
        OSError, …: if it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if whole or size <= 2 * _END:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        else:
            digest.update(file.read(_END))
            file.seek(-_END, os.SEEK_END)
            digest.update(file.read(_END))
    return size, digest.hexdigest()


class FileLists(threading.Thread):
    """Lists the files of each split as a gzipped CSV: a row a sample, with the columns :data:`COLUMNS`.

    Masks are read whole, images at both ends (:func:`file_digest`). A file of annotations that many samples share is
    read once. Paths are relative to ``root`` if they lie below it, so that the same data gives the same bytes on every
    machine. The thread takes a tenth of one CPU's time, so that nobody waits for it.

    Attributes:
        tables: the lists that are ready, by split.
        unread: by split, how many files have no size and digest: they could not be read, or time was up.

    Args:
        splits: samples of each split.
        root: ``data.root``.
    """

    def __init__(self, splits: Mapping[str, Sequence[Sample]], root: Path | None) -> None:
        super().__init__(name="file lists", daemon=True)
        self.splits = splits
        self.root = root
        self.tables: dict[str, bytes] = {}
        self.unread: dict[str, int] = {}
        self._hurry = threading.Event()
        self._deadline = float("inf")
        self._known: dict[str, _Found] = {}

    def finish(self, seconds: float) -> None:
        """Read the rest without pauses, and wait; files that are not reached in time have no size and digest."""
        self._deadline = time.monotonic() + seconds
        self._hurry.set()
        self.join()

    def run(self) -> None:
        for split, samples in self.splits.items():
            self.unread[split] = 0
            packed = io.BytesIO()
            # Without a time stamp, so that equal lists are equal files.
            with (
                gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
                io.TextIOWrapper(zipped, "utf-8", "backslashreplace") as text,  # names of files may be no text
            ):
                self._write(csv.writer(text, lineterminator="\n").writerow, split, samples)
            self.tables[split] = packed.getvalue()

    def _write(self, write_row: Callable[[Iterable[Any]], Any], split: str, samples: Sequence[Sample]) -> None:
        write_row(COLUMNS)
        started = time.perf_counter()
        for index in range(len(samples)):
            sample = samples[index]
            labels = ("", "", "") if sample.mask is None else self._labels(sample.mask)
            image = self._found(sample.image, whole=False)
            self.unread[split] += (image[2] == "") + (sample.mask is not None and labels[2] == "")
            write_row([sample.name, *image, *labels])
            if (worked := time.perf_counter() - started) > _STRETCH:
                self._hurry.wait(worked * (1 / _SHARE - 1))
                started = time.perf_counter()

    def _labels(self, mask: AnyFile | Annotations) -> _Found:
        if not isinstance(mask, Annotations):
            return self._found(mask, whole=True)
        if mask.file in self._known:
            return self._known[mask.file]
        found = self._found(located(Path(mask.file)), whole=True)
        if found[2]:  # a registered data set's annotations lie in memory
            self._known[mask.file] = found
        return found

    def _found(self, file: AnyFile, whole: bool) -> _Found:
        name = name_below(file, self.root)
        if time.monotonic() > self._deadline:
            return name, "", ""
        try:
            return name, *file_digest(file, whole)
        except Exception:  # a source may raise what it likes; the training says so where it needs the file
            return name, "", ""
