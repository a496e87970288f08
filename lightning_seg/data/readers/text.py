"""Reads the text files that list samples: lists, CSV, JSON."""

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from lightning_seg.data.archives.places import located
from lightning_seg.data.reading.storage import read_bytes
from lightning_seg.errors import DataError, reason_of

_MARKS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: Path, setting: str, *, raw_names: bool = False) -> str:
    """Read a whole file: as UTF-8, or as its byte order mark says.

    Args:
        file: to read.
        setting: of the reader that names the file, for messages.
        raw_names: keep bytes that are no UTF-8 as Python keeps them in file names, so that such files are found.

    Raises:
        DataError: if the file is missing, cannot be opened, or is not in such an encoding, with the line.
    """
    try:
        data = read_bytes(located(file))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{file} does not exist: check data.root and the reader's {setting}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({reason_of(error)}): check the reader's {setting}") from None
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding, "surrogateescape" if raw_names and encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}, line {line} is not in {encoding.removesuffix('-sig').upper()}: save the file in UTF-8, such as "
            f"with iconv -f latin1 -t utf-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{file} holds zero bytes: it is no text in UTF-8; save it as text in UTF-8")
    return text


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    r"""The lines that are not blank, with their numbers; only line feeds and carriage returns end one.

    >>> list(lines_of("a\u2028b\r\n\nc"))
    [(1, 'a\u2028b'), (3, 'c')]
    """
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield number, line.rstrip("\n")


def is_raw(name: str) -> bool:
    """Whether a name holds bytes that are no UTF-8."""
    try:
        os.fsencode(name).decode()
    except UnicodeError:
        return True
    return False
