"""Frames of videos as images: a frame's path is that of its video, a slash and its number from 0, ``clip.mp4/000012``.

OpenCV's jumps to a frame are inexact in most formats, so that frames are decoded one after the other; whoever asks for
them in order pays nothing for that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.errors import UnreadableError
from lightning_seg.sources import AnyFile

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp")
"""What is taken for a video, in any case."""

_OPEN_AT_ONCE = 4


def is_video(path: Path) -> bool:
    """Whether a file is named as a video."""
    return path.suffix.lower() in SUFFIXES


def frame_of(path: AnyFile) -> tuple[Path, int] | None:
    """The video and the number that a path of a frame means; None of any other path.

    >>> frame_of(Path("images/000012.png"))
    """
    if not (isinstance(path, Path) and is_video(path.parent) and path.name.isdecimal() and path.parent.is_file()):
        return None
    return path.parent, int(path.name)


def frame_paths(video: Path) -> list[Path]:
    """Paths of all frames in order; the first one alone of a file that cannot be read, for its reader to say so.

    The frames are counted as the file's packets, without decoding them.
    """
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_FORMAT, -1)  # packets
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return [video / f"{number:06d}" for number in range(max(1, count))]


def frames_per_second(video: Path) -> float:
    """How many frames of a video are shown a second, on average; 25 where it does not say."""
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def read_frame(video: Path, number: int, rules: ReadingRules = USUAL) -> NDArray[np.uint8]:
    """Decode a frame, upright, as (H, W, 3) RGB uint8.

    Raises:
        UnreadableError: if the video cannot be opened, or ends before.
        UnfitImageError: if the frame has more pixels than are allowed.
    """
    place = _at(video, number)
    while place.coming <= number:
        if not place.capture.grab():
            _open.remove(place)
            raise UnreadableError(
                f"video {video} cannot be decoded beyond {place.coming} frames: repair it, such as with ffmpeg, or "
                "cut it there"
            )
        place.coming += 1
    found, frame = place.capture.retrieve()
    if not found:
        raise UnreadableError(f"frame {number} of video {video} cannot be decoded: repair it, such as with ffmpeg")
    rules.check_size((frame.shape[0], frame.shape[1]), video, "video")
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


@dataclass
class _Place:
    """An open video.

    Attributes:
        video: its path.
        capture: OpenCV's.
        coming: number of the frame that is decoded next.
    """

    video: Path
    capture: Any
    coming: int = 0


_open: list[_Place] = []
"""Those of this process, the last used ones last."""


def _at(video: Path, number: int) -> _Place:
    """The open video that is nearest before a frame, or one that is opened for it."""
    before = [place for place in _open if place.video == video and place.coming <= number]
    if before:
        place = max(before, key=lambda place: place.coming)
        _open.remove(place)
    else:
        capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise UnreadableError(f"video {video} cannot be read: OpenCV does not open it; replace or remove it")
        place = _Place(video, capture)
        if len(_open) >= _OPEN_AT_ONCE:
            _open.pop(0).capture.release()
    _open.append(place)
    return place
