"""Overlays of a video's frames as a video.

OpenCV's wheel has no encoder of H.264. Of those that it has, MPEG-4 in an MP4 gives the same bytes for the same frames,
as VP9 does, which takes thirty times as long, and as WebM and Matroska files do not.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2

from lightning_seg.data.reading.video import count_frames
from lightning_seg.errors import DataError
from lightning_seg.files import DRAFT_SUFFIX, naming_full_disk, sync_folder

_CODEC = "mp4v"


def join_frames(frames: Sequence[Path], path: Path, frames_per_second: float) -> None:
    """Write pictures of one size as a video; odd sides get a row or column more, which repeats the last.

    Args:
        frames: the pictures, in order.
        path: of the video, which is whole at every moment.
        frames_per_second: that it is shown at.

    Raises:
        DataError: if OpenCV cannot write it.
        DiskFullError: if there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.stem}{DRAFT_SUFFIX}{path.suffix}")  # the format goes by the suffix
    writer = None
    try:
        with naming_full_disk(path):
            for frame in frames:
                picture = cv2.imread(str(frame))
                if picture is None:
                    raise DataError(f"{frame} cannot be read: remove it and predict again")
                height, width = picture.shape[:2]
                picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
                if writer is None:
                    size, code = (picture.shape[1], picture.shape[0]), cv2.VideoWriter.fourcc(*_CODEC)
                    writer = cv2.VideoWriter(str(draft), cv2.CAP_FFMPEG, code, frames_per_second, size)
                    if not writer.isOpened():
                        raise DataError(f"{path} cannot be written: OpenCV has no encoder {_CODEC} of FFmpeg here")
                writer.write(picture)
            if writer is not None:
                writer.release()
                if (written := count_frames(draft)) != len(frames):  # OpenCV says nothing of a full disk
                    raise DataError(
                        f"{path} cannot be written: {written} of {len(frames)} frames are; is the disk full?"
                    )
                with draft.open("rb+") as file:
                    os.fsync(file.fileno())
                draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
