"""Rows that are done: what counts, what is cut off, what is thrown away."""

from pathlib import Path

import numpy as np
import pytest

from lightning_seg.geo.journal import Journal
from tests.geo.rasters import regions

WIDTH = 37
LABELS = regions(100, WIDTH).astype(np.uint16) * 300
MADE_FROM = {"checkpoint": "last.ckpt"}


def opened(path: Path, width: int = WIDTH, made_from: dict[str, str] = MADE_FROM) -> Journal:
    return Journal(path, width, np.dtype(np.uint16), made_from)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deep/folder/a.rows"
    with opened(path) as journal:
        for start, stop in ((0, 40), (40, 41), (41, 80)):
            journal.append(LABELS[start:stop])
    return path


@pytest.mark.parametrize("height", [1, 16, 40, 80, 512])
def test_rows_come_back_in_bands_of_one_height(path: Path, height: int) -> None:
    with opened(path) as journal:
        assert journal.rows == 80
        bands = list(journal.bands(height))
        np.testing.assert_array_equal(np.concatenate(bands), LABELS[:80])
        assert {len(band) for band in bands[:-1]} <= {height}
        next(journal.bands(1))
        journal.append(LABELS[80:])  # also after reading
    with opened(path) as journal:
        np.testing.assert_array_equal(next(journal.bands(512)), LABELS)


def test_a_band_that_is_not_whole_does_not_count(path: Path) -> None:
    data = path.read_bytes()
    with opened(path) as journal:
        journal.append(LABELS[80:])
    whole = path.read_bytes()
    for size in (*range(len(data), len(data) + 25), len(whole) - 1):
        path.write_bytes(whole[:size])
        with opened(path) as journal:
            assert journal.rows == 80
            journal.append(LABELS[80:])
        assert path.read_bytes() == whole


def test_what_a_power_cut_leaves_does_not_count(path: Path) -> None:
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(500))
    with opened(path) as journal:
        assert journal.rows == 80
    assert path.stat().st_size == size
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with opened(path) as journal:
        assert journal.rows == 41


@pytest.mark.parametrize("other", [{"width": WIDTH + 1}, {"made_from": {"checkpoint": "best.ckpt"}}])
def test_other_inputs_begin_anew(path: Path, other: dict[str, object]) -> None:
    with opened(path, **other) as journal:
        assert journal.rows == 0
        assert list(journal.bands(9)) == []


def test_rows_of_another_width_are_a_bug(path: Path) -> None:
    with opened(path) as journal, pytest.raises(ValueError, match="rows of 37 pixels"):
        journal.append(LABELS[:3, :5])
