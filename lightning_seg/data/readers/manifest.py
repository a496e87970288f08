"""Reads a table of images and masks: CSV, or JSON lines."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from lightning_seg.data.readers.finding import Finder, resolve
from lightning_seg.data.readers.names import unique_names
from lightning_seg.data.readers.pairing import Named, complete, pair
from lightning_seg.data.readers.reader import Orphan, Reader
from lightning_seg.data.readers.text import lines_of, read_text
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.hints import did_you_mean
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Sample, summarise

Row = dict[str, str]

OWN_COLUMNS = ("name", "mIoU", "pAcc", "pixels", "loss")
"""Those of ``images.csv``, beside ``IoU/<class>``."""

_OTHER_SIGNS = ";\t|"
"""What tables are separated by in place of commas, such as those of spreadsheets in many countries."""


class Manifest(Reader):
    """One row a sample, with the paths of its image and mask and the split that it belongs to.

    Paths are relative to ``data.root``, or to the folder of the file. Spaces around a cell do not count.

    Args:
        file: ``.csv`` with a header line, or ``.jsonl`` with one object a line; UTF-8, or UTF-16 with its mark.
        split: reads the rows whose split column says so; null: all rows.
        image_column: name of the column of image paths.
        mask_column: name of the column of mask paths.
        split_column: name of the column of splits; only needed with ``split``.
        columns: names of further columns, such as ``[camera, weather]``: an evaluation gives figures by their values.

    Raises:
        ConfigError: if a column is named like one of ``images.csv``, or twice.
    """

    def __init__(
        self,
        file: str,
        split: str | None = None,
        image_column: str = "image",
        mask_column: str = "mask",
        split_column: str = "split",
        columns: Sequence[str] = (),
    ) -> None:
        self.file = file
        self.split = split
        self.image_column = image_column
        self.mask_column = mask_column
        self.split_column = split_column
        self.columns = tuple(columns)
        _refuse_columns(self.columns)

    def samples(self, root: Path | None) -> list[Sample]:
        file = resolve(self.file, root)
        rows = self._chosen_rows(file)
        self._refuse_unknown(file, rows)
        folders = [root or Path(), file.parent]
        finder = Finder()
        samples, orphans = [], []
        seen: dict[AnyFile, str] = {}
        entries = [self._cell(row, self.image_column, where) for where, row in rows]
        names = unique_names([entry.strip() for entry in entries])
        for name, entry, (where, row) in zip(names, entries, rows, strict=True):
            mask = self._cell(row, self.mask_column, where)
            found = pair(
                Named(entry, folders[0], finder.find(entry, folders)),
                Named(mask, folders[0], finder.find(mask, folders)),
                where,
            )
            if isinstance(found, Orphan):
                orphans.append(found)
                continue
            if (first := seen.setdefault(found[0], where)) != where:
                here = " in this split" if self.split else ""
                raise DataError(f"{where} names {entry} again{here}, first seen in {first}: remove one")
            samples.append(Sample(name, *found, columns=self._values(row)))
        return complete(samples, orphans)

    def _chosen_rows(self, file: Path) -> list[tuple[str, Row]]:
        rows = list(_rows(file))
        if self.split is None:
            chosen, there = rows, ""
        else:
            splits = [self._cell(row, self.split_column, where).strip() for where, row in rows]
            chosen = [row for row, split in zip(rows, splits, strict=True) if split == self.split]
            there = f": its splits are {summarise(sorted(set(splits)))}" if splits else ""
            _refuse_near_misses(file, self.split, splits)
        if not chosen:
            raise DataError(f"{file} has no row{f' of split {self.split!r}' if self.split else ''}{there}")
        return chosen

    def _refuse_unknown(self, file: Path, rows: Sequence[tuple[str, Row]]) -> None:
        there = dict.fromkeys(column for _, row in rows for column in row)
        for column in self.columns:
            if column not in there:
                raise DataError(
                    f"{file} has no column {column!r}, which columns names: its columns are {', '.join(there)}"
                    f"{did_you_mean(column, there)}"
                )

    def _values(self, row: Row) -> tuple[tuple[str, str], ...]:
        return tuple((column, row.get(column, "").strip()) for column in self.columns)

    def _cell(self, row: Row, column: str, where: str) -> str:
        if not row.get(column, "").strip():
            raise DataError(f"{where} has nothing in column {column!r}: its columns are {', '.join(row)}")
        return row[column]


def _refuse_columns(columns: Sequence[str]) -> None:
    for place, column in enumerate(columns):
        if column in OWN_COLUMNS or column.startswith("IoU/"):
            raise ConfigError(
                f"columns of a manifest has {column!r}, which is a column of images.csv itself: rename it in the file"
            )
        if column in columns[:place]:
            raise ConfigError(f"columns of a manifest has {column!r} twice: name it once")


def _refuse_near_misses(file: Path, split: str, splits: Sequence[str]) -> None:
    """A split in another case is a slip that would leave rows out."""
    near = Counter(other for other in splits if other != split and other.casefold() == split.casefold())
    if near and split in splits:
        counts = ", ".join(f"{count} of split {other!r}" for other, count in sorted(near.items()))
        raise DataError(f"{file} has rows of split {split!r} and {counts}: write them alike")


def _rows(file: Path) -> Iterator[tuple[str, Row]]:
    """Rows with where they stand."""
    kind = file.suffix.lower()
    if kind not in (".csv", ".jsonl"):
        raise DataError(f"{file} is neither .csv nor .jsonl")
    text = read_text(file, "file", raw_names=True)
    return _csv_rows(file, text) if kind == ".csv" else _json_rows(file, text)


def _csv_rows(file: Path, text: str) -> Iterator[tuple[str, Row]]:
    before = csv.field_size_limit(2**31 - 1)  # a run-length encoding beside the paths is longer than the default
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns: list[str] | None = None
        for cells in reader:
            where = f"{file}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = [cell.strip() for cell in cells]
                if len(columns) == 1 and (other := next((sign for sign in _OTHER_SIGNS if sign in cells[0]), None)):
                    raise DataError(f"{where} separates its columns by {other!r}: save the table with commas")
                if doubles := [name for name, count in Counter(columns).items() if name and count > 1]:
                    raise DataError(f"{file} has the column {summarise(doubles)} more than once: rename one")
                continue
            if len(cells) > len(columns):
                raise DataError(
                    f"{where} has {len(cells)} cells, but there are {len(columns)} columns: write a cell that holds a "
                    'comma in double quotes, "a,b.jpg"'
                )
            yield where, dict(zip_longest(columns, cells, fillvalue=""))
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num} is no CSV: {error}") from None
    finally:
        csv.field_size_limit(before)


def _json_rows(file: Path, text: str) -> Iterator[tuple[str, Row]]:
    for number, line in lines_of(text):
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where} is no JSON object")
        yield where, {str(key): str(value) for key, value in row.items() if value is not None}
