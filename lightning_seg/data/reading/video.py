"""Frames of videos as byte sources: all that reads images reads them, without knowing of videos.

OpenCV's jumps to a frame are inexact in most formats, so that frames are decoded one after the other; whoever asks for
them in order pays nothing for that.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from lightning_seg.errors import UnreadableError
from lightning_seg.sources import ByteSource

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp")
"""What is taken for a video, in any case."""

_OPEN_AT_ONCE = 4


def is_video(path: Path) -> bool:
    """Whether a file is named as a video."""
    return path.suffix.lower() in SUFFIXES


@dataclass(frozen=True, eq=False)
class Frame(ByteSource):
    """One frame of a video, whose bytes are those of a PPM file of it, upright.

    Attributes:
        video: path of the video, a file of its own.
        number: of the frame, from 0.
    """

    video: Path
    number: int

    def open(self) -> BinaryIO:
        """Decode the frame.

        Raises:
            FileNotFoundError: if there is no such video.
            UnreadableError: if the video cannot be opened, or ends before.
        """
        if not self.video.is_file():
            raise FileNotFoundError(self.video)
        return BytesIO(_decode(self.video, self.number))

    def __str__(self) -> str:
        """The path of the video, a slash and the number, such as ``clip.mp4/000012``."""
        return f"{self.video}/{self.number:06d}"

    def exists(self) -> bool:
        return self.video.is_file()


def frames_of(video: Path) -> list[Frame]:
    """All frames in order; the first one alone of a file that cannot be read, for its reader to say so.

    The frames are counted as the file's packets, without decoding them.
    """
    return [Frame(video, number) for number in range(max(1, count_frames(video)))]


def count_frames(video: Path) -> int:
    """How many frames a video holds; 0 where it cannot be read."""
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_FORMAT, -1)  # packets
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def frames_per_second(video: Path) -> float:
    """How many frames of a video are shown a second, on average; 25 where it does not say."""
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def _decode(video: Path, number: int) -> bytes:
    """A frame as the bytes of a PPM file."""
    place = _at(video, number)
    if place.coming > number:  # its header was read before
        return place.last
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
        _open.remove(place)
        raise UnreadableError(f"frame {number} of video {video} cannot be decoded: repair it, such as with ffmpeg")
    height, width = frame.shape[:2]
    place.last = b"P6 %d %d 255\n" % (width, height) + cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).tobytes()
    return place.last


@dataclass
class _Place:
    """An open video.

    Attributes:
        video: its path.
        capture: OpenCV's.
        coming: number of the frame that is decoded next.
        last: bytes of the one before.
    """

    video: Path
    capture: Any
    coming: int = 0
    last: bytes = b""


_open: list[_Place] = []
"""Those of this process, the last used ones last."""


def _at(video: Path, number: int) -> _Place:
    """The open video that is nearest before a frame, or one that is opened for it."""
    before = [place for place in _open if place.video == video and place.coming <= number + 1]
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
