"""Opens images and masks, wherever their bytes are, and names what cannot be read; nothing else opens them."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from lightning_seg.errors import LightningSegError, UnreadableError, reason_of
from lightning_seg.sources import AnyFile, ByteSource


def open_file(path: AnyFile) -> BinaryIO:
    """Open the bytes of a file, so that they can be read from any place.

    Raises:
        OSError, …: if it cannot be opened; a :class:`ByteSource` may raise anything.
    """
    return path.open("rb") if isinstance(path, Path) else path.open()


def exists(path: AnyFile) -> bool:
    """Whether there is anything to open."""
    return path.is_file() if isinstance(path, Path) else path.exists()


def read_bytes(path: AnyFile) -> bytes:
    """All bytes of a file.

    Raises:
        OSError, …: as :func:`open_file`.
    """
    with open_file(path) as file:
        return file.read()


class InMemory(ByteSource):
    """Bytes in memory, under the name of what they were read from."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name = name
        self._data = data

    def open(self) -> BinaryIO:
        return BytesIO(self._data)

    def __str__(self) -> str:
        return self._name


def held(path: AnyFile, what: str) -> AnyFile:
    """A source whose bytes are in memory, for who opens it several times; a file of its own stays as it is.

    Raises:
        UnreadableError: if they cannot be read.
    """
    if isinstance(path, Path):
        return path
    with named(path, what):
        return InMemory(str(path), read_bytes(path))


@contextmanager
def named(path: AnyFile, what: str) -> Iterator[None]:
    """Turn every error that a file causes into one that names the file.

    Args:
        path: of the file.
        what: ``image`` or ``mask``.

    Raises:
        UnreadableError: for every error that is not one of this project already; decoders raise what they like.
    """
    try:
        yield
    except LightningSegError:
        raise
    except (FileNotFoundError, NotADirectoryError):  # a file may stand where a folder is meant
        raise UnreadableError(f"{what} {path} does not exist") from None
    except Exception as error:
        raise UnreadableError(f"{what} {path} cannot be read ({reason_of(error)}): replace or remove it") from None
