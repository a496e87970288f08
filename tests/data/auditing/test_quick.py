"""The quick look before a run: bounded in time, in turn over the splits, and silent about what a run survives."""

import time
from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image

from lightning_seg.data.auditing import quick
from lightning_seg.data.auditing.examine import Examination
from lightning_seg.data.reading import USUAL
from lightning_seg.errors import DataError
from tests.auditing import listings, write_config
from tests.conftest import train_py
from tests.data import planted


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the look tells the user while the run goes on."""
    lines: list[str] = []
    monkeypatch.setattr(quick, "rank_zero_info", lines.append)
    return lines


def test_a_clean_set_passes_and_opencv_keeps_its_threads(tmp_path: Path, said: list[str]) -> None:
    threads = cv2.getNumThreads()
    quick.refuse_visible_defects(listings(planted.build(tmp_path), "train", "val"))
    assert cv2.getNumThreads() == threads
    assert said == []


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


def test_no_file_is_opened_after_the_deadline_and_it_is_said(tmp_path: Path, said: list[str]) -> None:
    root = planted.build(tmp_path)
    planted.unknown_id(root)
    quick.refuse_visible_defects(listings(root, "train", "val"), seconds=0)
    assert said == [
        "The quick look at the data had no time for 10 of 10 samples: they are checked as the run reads them, and all "
        "at once by python -m lightning_seg.audit --config …"
    ]


class Clock:
    """Stands still but for what a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_slow_decoder_ends_the_look(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = listings(planted.build(tmp_path), "train", "val")
    clock, real = Clock(), quick.examine

    def slowly(*call: Any) -> Examination:
        clock.now += 1.0
        return real(*call)

    monkeypatch.setattr(quick, "time", clock)
    monkeypatch.setattr(quick, "examine", slowly)
    figures = quick.refuse_visible_defects(found, seconds=2.5)
    assert clock.now == 3.0
    assert [each.masks for each in figures.values()] == [2, 1]
    assert "no time for 7 of 10 samples" in said[0]


def test_an_image_too_large_for_the_time_is_left_to_the_run(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header tells: 90 million pixels would take 2.7 seconds."""
    root = planted.build(tmp_path)
    Image.new("1", (10_000, 9_000)).save(root / "train/images/0.png")
    Image.new("1", (10_000, 9_000)).save(root / "train/masks/0.png")
    looked: list[str] = []
    real = quick.examine
    monkeypatch.setattr(quick, "time", Clock())
    monkeypatch.setattr(quick, "examine", lambda *call: looked.append(call[0].name) or real(*call))
    quick.refuse_visible_defects(listings(root, "train"), seconds=2.6)
    assert looked == ["1", "2", "3", "4", "5"]
    assert "no time for 1 of 6 samples" in said[0]


def test_what_was_slow_is_expected_to_be_so_again(tmp_path: Path) -> None:
    sample = listings(planted.build(tmp_path), "train")["train"].samples[0]
    clock = quick._Clock(time.monotonic() + 60)
    assert clock.has_time_for(sample, USUAL)
    with clock:
        clock._begun -= 1e9  # seconds for 48×64 pixels
    assert clock.has_time
    assert not clock.has_time_for(sample, USUAL)


def test_absent_classes_are_told_and_the_run_goes_on(tmp_path: Path) -> None:
    root = planted.build(tmp_path)
    planted.absent_class(root)
    with pytest.warns(UserWarning, match=r"data\.val has no pixel of class 'window': means over classes leave it out$"):
        quick.refuse_visible_defects(listings(root, "train", "val"))


def test_of_many_absent_classes_the_first_are_told(tmp_path: Path) -> None:
    found = listings(planted.build(tmp_path), "train", classes=[*planted.CLASSES, *"abcdefg"])
    with pytest.warns(UserWarning, match=r"(data\.train has no pixel of class '.': it is not learnt\n){5}and 2 more$"):
        quick.refuse_visible_defects(found)


def test_each_split_has_its_share_of_a_fixed_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = listings(planted.build(tmp_path), "train", "val")
    looked: list[str] = []
    real = quick.examine
    monkeypatch.setattr(quick, "examine", lambda *call: looked.append(f"{call[2]} {call[0].name}") or real(*call))
    monkeypatch.setattr(quick, "WHOLE_FILES", 3)
    quick.look_quickly(found, time.monotonic() + 60)
    assert looked == ["train 0", "val 0", "train 2", "val 2", "train 5", "val 3"]


@pytest.mark.runs
def test_a_defect_stops_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = planted.build(tmp_path / "set")
    path = planted.unknown_id(root)
    flags = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = train_py("fit", "--config", write_config(root), *flags, timeout=240)
    assert done.returncode == 1
    assert done.stderr.count(f"{path} has class id 77 in 30 pixels") == 1
