"""What a folder of predictions was made with, and of which inputs it holds them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from lightning_seg.files import absolute, replacing
from lightning_seg.structures import Sample

MADE_WITH, INPUTS = "made_with.json", "inputs.csv"
"""Files of a folder of predictions."""

_LONGEST = 60
"""Characters of a value in a message."""


def read_record(folder: Path) -> dict[str, Any] | None:
    """What the predictions in a folder were made with; None where that is not known."""
    try:
        record = json.loads((folder / MADE_WITH).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what predictions are made with: plain values by name."""
    with replacing(folder / MADE_WITH) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs of two records, each ``name: old there, new here``."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name}: {_shown(before.get(name))} there, {_shown(now.get(name))} here" for name in names]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class Input(NamedTuple):
    """A predicted file as it was then; numbers as text.

    Attributes:
        name: of the sample.
        file: its path, or the name of its byte source.
        bytes: its size.
        modified_ns: when it was modified, in nanoseconds.
    """

    name: str
    file: str
    bytes: str
    modified_ns: str

    @classmethod
    def of(cls, sample: Sample) -> "Input | None":
        """As the file is now, or the one that its bytes lie in; None where there is none."""
        path = absolute(str(sample.image))
        for file in (path, *path.parents):  # the bytes may lie in another file, and are named below it
            if file.is_file():
                status = file.stat()
                return cls(sample.name, str(path), str(status.st_size), str(status.st_mtime_ns))
        return None


class Inputs:
    """The table of the inputs whose predictions a folder holds, ``inputs.csv``.

    Each process notes what it has predicted in a file of its own, a line each, which outlives the process. The first
    process joins them before and after.

    Args:
        folder: of the predictions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None

    def note(self, done: Input, rank: int) -> None:
        """Say that an input is predicted and its files are there."""
        if self._file is None:
            self._file = (self.folder / f"inputs-{rank}.csv").open("a", buffering=1, **_TEXT)
        csv.writer(self._file, lineterminator="\n").writerow(done)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Forget all."""
        for path in self.folder.glob("inputs*.csv"):
            path.unlink()

    def join(self, order: Iterable[str]) -> dict[str, Input]:
        """Write one table of all notes, on one process, while nobody notes anything.

        Args:
            order: names, which come first.

        Returns:
            All inputs by name, in the order of the table.
        """
        notes = sorted(self.folder.glob("inputs-*.csv"))
        found = {entry.name: entry for path in [self.folder / INPUTS, *notes] for entry in _entries(path)}
        known = [name for name in dict.fromkeys(order) if name in found]
        inputs = {name: found[name] for name in [*known, *sorted(found.keys() - set(known))]}
        with replacing(self.folder / INPUTS) as raw:
            rows = io.TextIOWrapper(raw, **_TEXT)
            csv.writer(rows, lineterminator="\n").writerows([Input._fields, *inputs.values()])
            rows.detach()
        for path in notes:
            path.unlink()
        return inputs


_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""Names of files may be no text: their bytes are kept."""


def _entries(path: Path) -> Sequence[Input]:
    """All whole lines; the last one of a process that was killed may be cut off."""
    if not path.is_file():
        return []
    with path.open(**_TEXT) as file:
        lines = file.read().rpartition("\n")[0]
    rows = csv.reader(io.StringIO(lines, newline=""))
    return [Input(*row) for row in rows if len(row) == len(Input._fields) and tuple(row) != Input._fields]
