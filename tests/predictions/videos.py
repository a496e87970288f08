"""Videos to predict."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def write_video(
    path: Path, frames: int, size: tuple[int, int] = (48, 64), rate: float = 10.0
) -> list[NDArray[np.uint8]]:
    """A disc that moves over a background whose grey grows, without loss; returns the frames, (H, W, 3) RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), rate, (width, height))
    assert writer.isOpened()
    shown = []
    for number in range(frames):
        frame = np.full((height, width, 3), 10 + 10 * number, np.uint8)
        cv2.circle(frame, (6 + 3 * number, height // 2), 6, (30, 200, 90), -1)
        writer.write(frame)
        shown.append(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return shown
