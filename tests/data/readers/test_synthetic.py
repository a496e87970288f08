"""The made-up scenes: ordinary files, the same every time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lightning_seg.data import Synthetic
from lightning_seg.data.readers.scenes import CLASSES, IGNORE
from lightning_seg.data.reading import read_image, read_mask
from lightning_seg.errors import DataError


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_arguments_same_files(tmp_path: Path) -> None:
    for root in ("a", "b"):
        Synthetic(root=root, count=3, seed=0, size=(40, 56)).prepare(tmp_path)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    Synthetic(root="c", count=3, seed=1, size=(40, 56)).prepare(tmp_path)
    assert not set(digest(tmp_path / "a").values()) & set(digest(tmp_path / "c").values())


def test_looks_like_segmentation(tmp_path: Path) -> None:
    reader = Synthetic(root="s", count=20, seed=0)
    reader.prepare(tmp_path)
    samples = reader.samples(tmp_path)
    assert len(samples) == 20
    assert read_image(samples[0].image).shape == (128, 160, 3)
    pixels = np.concatenate([read_mask(sample.mask).values.ravel() for sample in samples if sample.mask])
    assert set(np.unique(pixels)) == {*range(len(CLASSES)), IGNORE}
    assert 0.02 < (pixels == IGNORE).mean() < 0.2


def test_written_once_and_refused_under_other_settings(tmp_path: Path) -> None:
    reader = Synthetic(root="s", count=2, seed=0, size=(32, 32))
    reader.prepare(tmp_path)
    before = (tmp_path / "s" / "scenes.json").stat().st_mtime_ns
    reader.prepare(tmp_path)
    assert (tmp_path / "s" / "scenes.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds scenes made with"):
        Synthetic(root="s", count=3, seed=0, size=(32, 32)).prepare(tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"holds no scenes\.json"):
        Synthetic(root="other", count=3, seed=0).prepare(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "s"]  # no draft is left
