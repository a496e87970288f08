"""The quick look before a run: bounded in time, in turn over the splits, and silent about what a run survives."""

import time
from pathlib import Path

import cv2
import pytest

from lightning_seg.data import Folder
from lightning_seg.data.auditing import quick
from lightning_seg.data.auditing.listing import Listing, list_splits
from lightning_seg.data.labelling import Labelling
from lightning_seg.errors import DataError
from lightning_seg.structures import DatasetInfo, default_palette
from tests.conftest import train_py
from tests.data import planted
from tests.test_audit import write_config


def listings(root: Path, *splits: str) -> dict[str, Listing]:
    info = DatasetInfo(tuple(planted.CLASSES), 255, default_palette(3))
    readers = {split: Folder(images=f"{split}/images", masks=f"{split}/masks") for split in splits}
    return list_splits(readers, root, Labelling(info, {}, {}, "refuse"))


def test_a_clean_set_passes_and_opencv_keeps_its_threads(tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    quick.refuse_visible_defects(listings(planted.build(tmp_path), "train", "val"))
    assert cv2.getNumThreads() == threads


def test_several_defects_in_one_message(tmp_path: Path) -> None:
    root = planted.build(tmp_path)
    planted.orphan_image(root)
    paths = [planted.truncated_image(root), planted.unknown_id(root), planted.jpeg_mask(root)]
    with pytest.raises(DataError) as caught:
        quick.refuse_visible_defects(listings(root, "train", "val"))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("data.train: 1 of 7 images in ")
    assert len(lines) == 5
    for path in paths:
        assert sum(str(path) in line for line in lines) == 1
    assert lines[-1].endswith("python -m lightning_seg.audit --config … reads all files and lists every defect")


def test_the_message_stays_short(tmp_path: Path) -> None:
    root = planted.build(tmp_path)
    for path in (root / "train/masks").iterdir():
        path.write_bytes(b"")
    for path in (root / "val/masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        quick.refuse_visible_defects(listings(root, "train", "val"))
    assert str(caught.value).splitlines()[quick.SHOWN] == "and 5 more"


def test_no_file_is_opened_after_the_deadline(tmp_path: Path) -> None:
    root = planted.build(tmp_path)
    planted.unknown_id(root)
    quick.refuse_visible_defects(listings(root, "train", "val"), seconds=0)


def test_each_split_has_its_share_of_a_fixed_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = listings(planted.build(tmp_path), "train", "val")
    looked: list[str] = []
    real = quick.examine
    monkeypatch.setattr(quick, "examine", lambda *call: looked.append(f"{call[2]} {call[0].name}") or real(*call))
    monkeypatch.setattr(quick, "WHOLE_FILES", 3)
    quick.look_quickly(found, time.monotonic() + 60)
    assert looked == ["train 0", "val 0", "train 2", "val 2", "train 5", "val 3"]


def test_a_defect_stops_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = planted.build(tmp_path / "set")
    path = planted.unknown_id(root)
    flags = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = train_py("fit", "--config", write_config(root), *flags, timeout=240)
    assert done.returncode == 1
    assert done.stderr.count(f"{path} has class id 77 in 30 pixels") == 1
