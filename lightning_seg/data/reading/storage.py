"""Where the bytes of a file lie, and who is named when they cannot be read; nothing else opens an image or a mask."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lightning_seg.errors import DataError, UnreadableError


def open_file(path: Path) -> BinaryIO:
    """The bytes of a file, to be read from any place.

    Raises:
        OSError: if it cannot be opened.
    """
    return path.open("rb")


def read_bytes(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: if it cannot be read.
    """
    with open_file(path) as file:
        return file.read()


@contextmanager
def named(path: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one error that names it.

    Args:
        path: of the file.
        what: it is: ``image`` or ``mask``.

    Raises:
        UnreadableError: for every error that is no :class:`DataError` already: decoders raise what they like.
    """
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise UnreadableError(f"{what} {path} does not exist") from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"{what} {path} cannot be read ({reason}): replace or remove it") from None
