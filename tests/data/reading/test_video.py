"""Frames of videos: each by its number, in whatever order they are asked for, and damage by name."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_seg.data.reading import ReadingRules, read_image
from lightning_seg.data.reading.video import frame_of, frame_paths, frames_per_second
from lightning_seg.errors import UnfitImageError, UnreadableError
from tests.predictions.videos import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("video") / "clip.avi"


def test_frames_are_those_that_were_written_in_any_order(video: Path) -> None:
    written = write_video(video, 12, rate=12.5)
    paths = frame_paths(video)
    assert [path.name for path in paths] == [f"{number:06d}" for number in range(12)]
    assert frames_per_second(video) == 12.5
    for number in (0, 1, 5, 4, 11, 2, 3, 0, 6):  # backward, too
        assert np.abs(read_image(paths[number]).astype(int) - written[number]).max() <= 3, number  # YUV


def test_a_video_that_ends_before_is_named(video: Path, tmp_path: Path) -> None:
    write_video(video, 12)
    with pytest.raises(UnreadableError, match=r"video .*clip\.avi cannot be decoded beyond 12 frames: repair it"):
        read_image(video / "000012")
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(video.read_bytes()[:40])
    assert frame_paths(torn) == [torn / "000000"]
    with pytest.raises(UnreadableError, match=r"video .*torn\.mp4 cannot be read: OpenCV does not open it"):
        read_image(torn / "000000")


def test_the_limit_of_pixels_holds(video: Path) -> None:
    write_video(video, 1)
    with pytest.raises(UnfitImageError, match=r"clip\.avi is 64×48 pixels, but data\.max_pixels allows 100"):
        read_image(video / "000000", ReadingRules(None, 100))


def test_a_folder_may_be_named_as_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    cv2.imwrite(str(tmp_path / "a.mp4" / "1.png"), np.full((4, 4, 3), 7, np.uint8))
    assert frame_of(tmp_path / "a.mp4" / "000001") is None
    assert read_image(tmp_path / "a.mp4" / "1.png").max() == 7
