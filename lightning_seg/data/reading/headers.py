"""Reads the header of an image or mask, whatever its format."""

from typing import BinaryIO

from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.jpeg import JPEG_START, read_jpeg
from lightning_seg.data.reading.npy import MAGIC, read_npy
from lightning_seg.data.reading.others import read_other
from lightning_seg.data.reading.png import SIGNATURE, read_png
from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.data.reading.storage import named, open_file
from lightning_seg.data.reading.tiff import MAGICS, read_tiff
from lightning_seg.sources import AnyFile


def read_header(path: AnyFile, what: str, rules: ReadingRules = USUAL) -> Header:
    """Read the header of a file, and none of its pixels.

    Args:
        path: of the file.
        what: ``image`` or ``mask``, for messages.
        rules: what may be read.

    Raises:
        UnreadableError: if the file is missing or no image.
        UnfitImageError: if it has more pixels than are allowed.
    """
    with named(path, what):
        with open_file(path) as file:
            header = header_of(file)
        rules.check_size(header.stored, path, what)
    return header


def header_of(file: BinaryIO) -> Header:
    """Read the header of an open file; errors are those of its format."""
    start = file.read(len(SIGNATURE))
    if start.startswith(JPEG_START):
        header = read_jpeg(file)
    elif start == SIGNATURE:
        header = read_png(file)
    elif start[:4] in MAGICS:
        header = read_tiff(file)
    elif start.startswith(MAGIC):
        header = read_npy(file)
    else:
        header = read_other(file)
    if min(header.stored) < 1:
        raise ValueError(f"it says that it is {header.stored[1]}×{header.stored[0]} pixels")
    return header
