"""Reads one member of an archive by its position."""

import os
import zlib
from dataclasses import astuple, dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from lightning_seg.sources import ByteSource

STORED, DEFLATED, TAR = "stored", "deflated", "tar"

_HEADER = 30
"""Bytes of a ZIP's local header before the name."""

_SLACK = 64
"""Bytes for the fields after the name, which only the local header tells; where they are more, it is read again."""

_RATIO = 1032
"""Deflate never makes less of data than this."""


@dataclass(frozen=True, eq=False)
class Member(ByteSource):
    """A file in an archive; it is read without any index, lock or shared position.

    Attributes:
        archive: path of the archive.
        name: of the member, with its folders.
        stamp: size and time (ns) of the archive when it was indexed.
        method: ``stored`` or ``deflated`` in a ZIP, ``tar`` in a TAR; else why it cannot be read.
        start: of its header in a ZIP, of its bytes in a TAR.
        stored: its bytes in the archive.
        size: its bytes.
        checksum: CRC-32 of its bytes; None in a TAR.
    """

    archive: str
    name: str
    stamp: tuple[int, int]
    method: str
    start: int
    stored: int
    size: int
    checksum: int | None

    def open(self) -> BinaryIO:
        if self.method not in (STORED, DEFLATED, TAR):
            raise ValueError(self.method)
        archive = _opened(self.archive, self.stamp)
        if self.start + self.stored > self.stamp[0] or self.size > _RATIO * self.stored:
            raise ValueError(f"the archive does not hold the {self.size} bytes that it states")
        if self.method == TAR:
            return BytesIO(_read(archive, self.start, self.size))
        data = self._zipped(archive)
        if self.method == DEFLATED:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(data, self.size + 1)
        if len(data) != self.size:
            raise ValueError(f"it holds other than the {self.size} bytes that the archive states")
        if zlib.crc32(data) != self.checksum:
            raise ValueError("its bytes are not those of its checksum in the archive")
        return BytesIO(data)

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def exists(self) -> bool:
        return Path(self.archive).is_file()

    def __reduce__(self) -> tuple[Any, ...]:
        return Member, astuple(self)

    def _zipped(self, archive: BinaryIO) -> bytes:
        """The bytes behind the local header, whose length only the header tells."""
        guess = _HEADER + len(self.name.encode(errors="surrogateescape")) + _SLACK
        block = _read(archive, self.start, min(guess + self.stored, self.stamp[0] - self.start))
        if block[:4] != b"PK\3\4" or len(block) < _HEADER:
            raise ValueError("its header in the archive is damaged")
        offset = _HEADER + int.from_bytes(block[26:28], "little") + int.from_bytes(block[28:30], "little")
        if offset + self.stored <= len(block):
            return block[offset : offset + self.stored]
        return _read(archive, self.start + offset, self.stored)


@lru_cache(maxsize=64)
def _opened(archive: str, stamp: tuple[int, int]) -> BinaryIO:
    """The archive as this process reads it; one that leaves the cache is closed with its last use."""
    file = Path(archive).open("rb", buffering=0)  # noqa: SIM115  # it stays open
    if stamp_of(os.fstat(file.fileno())) != stamp:
        file.close()
        raise ValueError("its archive has changed since it was listed: start again")
    return file


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Size and time (ns) of an archive: those of another state differ."""
    return status.st_size, status.st_mtime_ns


def _read(archive: BinaryIO, start: int, count: int) -> bytes:
    """Bytes at a place, wherever else the file is read at the same time."""
    data = os.pread(archive.fileno(), count, start)
    while len(data) < count and (more := os.pread(archive.fileno(), count - len(data), start + len(data))):
        data += more  # the system reads at most 2 GiB at once
    if len(data) < count:
        raise ValueError("the archive ends before it does")
    return data
