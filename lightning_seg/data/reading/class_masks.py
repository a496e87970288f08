"""Unites the masks of an image that has one file for each class."""

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.headers import read_header
from lightning_seg.data.reading.masks import StoredMask, read_mask
from lightning_seg.data.reading.storage import exists
from lightning_seg.errors import DataError, LossyMaskError, UnreadableError
from lightning_seg.sources import AnyFile, ByteSource

_FULL = (255, 65535)
"""What stands for all of a pixel in a mask of 8 or 16 bits."""

_SMOOTH = 3
"""A mask that has at least this many values between nothing and full was smoothed."""


@dataclass(frozen=True, eq=False)
class ClassMasks(ByteSource):
    """One mask of several files, each of which says where one class is.

    Its bytes are a PNM image of values: that of the last file that covers a pixel, or 0.

    Attributes:
        name: of all files together, such as ``masks/{class}/a.png``.
        image: whose mask it is; says how large it is where there is no file.
        files: value, from 1, and file of each class, the lowest first.
        exclusive: refuse pixels that two files cover.
        threshold: the least stored value that counts; None: all but 0, and a mask that looks smoothed is refused.
    """

    name: str
    image: AnyFile
    files: tuple[tuple[int, AnyFile], ...]
    exclusive: bool = True
    threshold: int | None = None

    def __str__(self) -> str:
        return self.name

    def exists(self) -> bool:
        return all(exists(file) for _, file in self.files)

    def open(self) -> BinaryIO:
        """Read and unite all files.

        Raises:
            DataError: if one cannot be read, if their sizes differ, or if two cover one pixel.
        """
        values = self._united()
        height, width = values.shape
        deep = values.dtype.itemsize > 1
        pixels = values.astype(">u2") if deep else values
        return io.BytesIO(b"P5\n%d %d\n%d\n" % (width, height, 65535 if deep else 255) + pixels.tobytes())

    def _united(self) -> NDArray[np.uint8 | np.uint16]:
        dtype = np.uint8 if all(value <= 255 for value, _ in self.files) else np.uint16
        if not self.files:
            return np.zeros(read_header(self.image, "image").upright, dtype)
        united: NDArray[np.uint8 | np.uint16] | None = None
        for value, file in self.files:
            inside = covered(read_mask(file), file, self.threshold)
            if united is None:
                united = np.zeros(inside.shape, dtype)
            if inside.shape != united.shape:
                (height, width), (other_height, other_width) = inside.shape, united.shape
                raise DataError(
                    f"mask {file} is {width}×{height} pixels, but {self.files[0][1]} of the same image is "
                    f"{other_width}×{other_height}: they must be of one size"
                )
            if self.exclusive and (both := united[inside]).any():
                self._refuse_overlap(file, both)
            united[inside] = value
        assert united is not None
        return united

    def _refuse_overlap(self, file: AnyFile, both: NDArray[np.uint8 | np.uint16]) -> None:
        value = int(both[both > 0][0])
        other = next(other for known, other in self.files if known == value)
        raise DataError(
            f"masks {other} and {file} overlap in {np.count_nonzero(both == value)} pixels: mend them, or say with the "
            "reader's overlap: [CLASS, CLASS, …] which class lies over which"
        )


def covered(stored: StoredMask, file: AnyFile, threshold: int | None) -> NDArray[np.bool_]:
    """Where a mask of one class is, (H, W).

    Raises:
        UnreadableError: if its palette or transparency says otherwise than its values.
        LossyMaskError: if it was smoothed.
    """
    if stored.values is None:
        assert stored.colours is not None
        values = np.asarray(stored.colours.max(axis=2))
    else:
        values = stored.values
    if stored.palette is not None:
        used = np.unique(values[values < len(stored.palette)])
        black = ~stored.palette[used].any(axis=1)
        if (black != (used == 0)).any():
            raise UnreadableError(
                f"mask {file} has a palette in which value 0 is not black, or another value is: save it as grey, 0 "
                "where the class is not"
            )
    if stored.alpha is not None and stored.alpha.any() and (stored.alpha == 0).any():
        seen = np.count_nonzero((stored.alpha == 0) & (values > 0))
        if seen:
            raise UnreadableError(
                f"mask {file} is transparent in {seen} pixels that are not black, so that programs differ in where the "
                "class is: save it as grey, 0 where the class is not"
            )
    if threshold is not None:
        return np.asarray(values >= threshold)
    full = int(values.max(initial=0))
    if full in _FULL:
        between = values[(values > 0) & (values < full)]
        if len(between) and len(found := np.unique(between)) >= _SMOOTH:
            raise LossyMaskError(
                f"mask {file} has {len(found)} values between 0 and {full}, in {len(between)} pixels: it was smoothed "
                f"or scaled; save it with 0 and {full} alone, or say which values count with the reader's threshold, "
                f"such as threshold: {(full + 1) // 2}"
            )
    return np.asarray(values != 0)
