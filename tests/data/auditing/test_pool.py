"""Samples are examined in several processes as in one."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import cv2
import pytest

from lightning_seg.data.auditing import pool
from lightning_seg.data.auditing.examine import Examination
from lightning_seg.data.auditing.pool import examine_all
from lightning_seg.errors import DataError
from tests.auditing import listings
from tests.data import planted


def follow(examinations: Iterable[Examination], total: int) -> Iterable[Examination]:
    yield from examinations


def figures(root: Path, workers: int) -> list[tuple[object, ...]]:
    return [
        (seen.split, seen.image, seen.defects, seen.size, seen.digest, None if seen.class_pixels is None
         else seen.class_pixels.tolist(), seen.ignored, seen.unknown)
        for seen in examine_all(listings(root, *planted.COUNT), follow, workers)
    ]  # fmt: skip


def test_any_number_of_processes_finds_the_same(tmp_path: Path) -> None:
    root = planted.build(tmp_path)
    planted.truncated_image(root)
    cv2.GaussianBlur(planted.pixels(0, (2000, 2000)), (0, 0), 3)  # starts OpenCV's threads before the fork
    filters = list(warnings.filters)
    alone = figures(root, 1)
    assert warnings.filters == filters
    assert len(alone) == sum(planted.COUNT.values())
    assert figures(root, 2) == alone


def test_a_killed_process_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "examine", lambda *_: os._exit(9))
    with pytest.raises(DataError, match="was killed, perhaps for want of memory"):
        figures(planted.build(tmp_path), 2)
