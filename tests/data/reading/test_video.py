"""Frames of videos: each by its number, in whatever order they are asked for, and damage by name."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_seg.data.reading import ReadingRules, read_header, read_image
from lightning_seg.data.reading.video import Frame, frames_of, frames_per_second
from lightning_seg.errors import UnfitImageError, UnreadableError
from tests.predictions.videos import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("video") / "clip.avi"


def test_frames_are_those_that_were_written_in_any_order(video: Path) -> None:
    written = write_video(video, 12, rate=12.5)
    frames = frames_of(video)
    assert [str(frame) for frame in frames] == [f"{video}/{number:06d}" for number in range(12)]
    assert frames_per_second(video) == 12.5
    for number in (0, 0, 1, 5, 4, 11, 2, 3, 0, 6):  # backward, too
        assert np.abs(read_image(frames[number]).astype(int) - written[number]).max() <= 3, number  # YUV


def test_a_video_that_ends_before_is_named(video: Path, tmp_path: Path) -> None:
    write_video(video, 12)
    with pytest.raises(UnreadableError, match=r"video .*clip\.avi cannot be decoded beyond 12 frames: repair it"):
        read_image(Frame(video, 12))
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(video.read_bytes()[:40])
    assert frames_of(torn) == [Frame(torn, 0)]
    with pytest.raises(UnreadableError, match=r"video .*torn\.mp4 cannot be read: OpenCV does not open it"):
        read_image(Frame(torn, 0))


def test_the_limit_of_pixels_holds(video: Path) -> None:
    write_video(video, 1)
    with pytest.raises(UnfitImageError, match=r"clip\.avi/000000 is 64×48 pixels, but data\.max_pixels allows 100"):
        read_image(Frame(video, 0), ReadingRules(None, 100))


def test_a_frame_is_decoded_once_for_its_header_and_its_pixels(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(video, 3)
    read_image(Frame(video, 1))
    monkeypatch.setattr(cv2, "cvtColor", None)  # else it could not be called
    assert read_header(Frame(video, 1), "image").upright == (48, 64)


def test_a_video_that_is_gone_is_named(tmp_path: Path) -> None:
    assert not Frame(tmp_path / "a.mp4", 3).exists()
    with pytest.raises(UnreadableError, match=r"image .*a\.mp4/000003 does not exist"):
        read_image(Frame(tmp_path / "a.mp4", 3))
