"""Rows of a label map that are done, on disk, so that a killed process goes on behind the last of them."""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lightning_seg.files import naming_full_disk, sync_folder

_RECORD = struct.Struct("<QQI")
"""Rows, bytes that follow, their checksum."""
_LEVEL = 1
"""Of zlib: label maps shrink to a few hundredths at any level."""
_FORMAT = 1


class Journal:
    """A file of bands of rows, compressed, each with a checksum. Close it, or use it in a ``with`` block.

    A band counts once it is whole and on the disk; what a killed process or a power cut left behind it is cut off when
    the file is opened again. What was made from other inputs is thrown away.

    Attributes:
        rows: how many rows are done, from the top.

    Args:
        path: of the file; its folder is made where it is missing.
        width: pixels of a row.
        dtype: of the labels.
        made_from: all that the labels follow from, such as image, checkpoint and settings; must fit into JSON.
    """

    def __init__(self, path: Path, width: int, dtype: np.dtype[Any], made_from: Mapping[str, object]) -> None:
        self.path = path
        self.width = width
        self.dtype = dtype
        self.rows = 0
        about = {"format": _FORMAT, "width": width, "dtype": dtype.name, **made_from}
        head = json.dumps(about, sort_keys=True).encode() + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        if self._file.readline(len(head)) == head:
            end = len(head)
            for rows, _ in self._records():
                self.rows += rows
                end = self._file.tell()
            self._cut(end)
        else:
            with naming_full_disk(path):
                self._file.seek(0)
                self._file.write(head)
                self._cut(len(head))
            sync_folder(path.parent)
        self._start = len(head)

    def append(self, labels: NDArray[Any]) -> None:
        """Add the next rows, (rows, width); they are on the disk when this returns.

        Raises:
            DiskFullError: if there is no room.
        """
        if labels.ndim != 2 or labels.shape[1] != self.width or not len(labels):
            raise ValueError(f"rows of {self.width} pixels are expected, and {labels.shape} were given")
        data = zlib.compress(np.ascontiguousarray(labels, self.dtype).tobytes(), _LEVEL)
        with naming_full_disk(self.path):
            self._file.seek(0, os.SEEK_END)
            self._file.write(_RECORD.pack(len(labels), len(data), _checksum(len(labels), data)) + data)
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows += len(labels)

    def bands(self, height: int) -> Iterator[NDArray[Any]]:
        """All rows that are done in bands (height, width), whatever they were added in; the last may be lower."""
        self._file.seek(self._start)
        held: list[NDArray[Any]] = []
        count = 0
        for rows, data in self._records():
            labels = np.frombuffer(zlib.decompress(data), self.dtype).reshape(rows, self.width)
            while count + len(labels) >= height:
                first, labels = labels[: height - count], labels[height - count :]
                yield np.concatenate([*held, first])
                held, count = [], 0
            if len(labels):
                held.append(labels)
                count += len(labels)
        if held:
            yield np.concatenate(held)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Rows and bytes of each whole record from here on."""
        while len(start := self._file.read(_RECORD.size)) == _RECORD.size:
            rows, size, checksum = _RECORD.unpack(start)
            if not rows:  # what a file system adds before it has the bytes is 0
                return
            data = self._file.read(size) if size <= self._left() else b""
            if len(data) < size or _checksum(rows, data) != checksum:
                return
            yield rows, data

    def _left(self) -> int:
        return os.fstat(self._file.fileno()).st_size - self._file.tell()

    def _cut(self, end: int) -> None:
        self._file.truncate(end)
        self._file.seek(end)
        self._file.flush()
        os.fsync(self._file.fileno())


def _checksum(rows: int, data: bytes) -> int:
    return zlib.crc32(data, rows & 0xFFFFFFFF)
