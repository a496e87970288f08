"""A table of images and masks: CSV, or JSON lines."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lightning_seg.data.readers.pairing import complete, pair
from lightning_seg.data.readers.reader import Orphan, Reader, resolve, unique_names
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample, summarise


class Manifest(Reader):
    """One row a sample, with the paths of its image and mask and the split that it belongs to.

    Paths are relative to ``data.root``, or to the folder of the file.

    Args:
        file: ``.csv`` with a header line, or ``.jsonl`` with one object a line.
        split: reads the rows whose split column says so; null: all rows.
        image_column: name of the column of image paths.
        mask_column: name of the column of mask paths.
        split_column: name of the column of splits; only needed with ``split``.
    """

    def __init__(
        self,
        file: str,
        split: str | None = None,
        image_column: str = "image",
        mask_column: str = "mask",
        split_column: str = "split",
    ) -> None:
        self.file = file
        self.split = split
        self.image_column = image_column
        self.mask_column = mask_column
        self.split_column = split_column

    def samples(self, root: Path | None) -> list[Sample]:
        file = resolve(self.file, root)
        rows: list[tuple[str, dict[str, str]]] = []
        splits = set()
        for where, row in _rows(file):
            if self.split is not None:
                splits.add(self._cell(row, self.split_column, where))
                if row[self.split_column] != self.split:
                    continue
            rows.append((where, row))
        if not rows:
            there = f": its splits are {summarise(sorted(splits))}" if splits else ""
            raise DataError(f"{file} has no row{f' of split {self.split!r}' if self.split else ''}{there}")
        entries = [self._cell(row, self.image_column, where) for where, row in rows]
        if doubles := sorted(entry for entry, count in Counter(entries).items() if count > 1):
            raise DataError(f"{file} names {summarise(doubles)} more than once{' in this split' if self.split else ''}")
        folders = [root or Path(), file.parent]
        samples, orphans = [], []
        for name, entry, (where, row) in zip(unique_names(list(map(Path, entries))), entries, rows, strict=True):
            found = pair([entry], folders, self._cell(row, self.mask_column, where), folders, where)
            if isinstance(found, Orphan):
                orphans.append(found)
            else:
                samples.append(Sample(name, *found))
        return complete(samples, orphans)

    def _cell(self, row: dict[str, str], column: str, where: str) -> str:
        if not row.get(column):
            raise DataError(f"{where} has nothing in column {column!r}: its columns are {', '.join(map(str, row))}")
        return row[column]


def _rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows with where they stand."""
    if not file.is_file():
        raise DataError(f"{file} does not exist: check data.root and the reader's file")
    if file.suffix.lower() == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            for row in reader:
                yield f"{file}, line {reader.line_num}", row
        return
    if file.suffix.lower() != ".jsonl":
        raise DataError(f"{file} is neither .csv nor .jsonl")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}, line {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}, line {number} is no JSON object")
        yield f"{file}, line {number}", {str(key): str(value) for key, value in row.items() if value is not None}
