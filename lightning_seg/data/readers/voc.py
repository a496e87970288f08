"""Reads Pascal VOC's segmentation data in its own layout."""

from pathlib import Path

from lightning_seg.colours import Colour
from lightning_seg.data.archives.places import is_file, names_in
from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample, SourceLabels

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
BORDER = 255


class VOC(Reader):
    """``JPEGImages/``, ``SegmentationClass/`` and the lists in ``ImageSets/Segmentation/`` below ``root``.

    Masks are palette PNGs, read by index; 255, the border of objects, is ignored. A split that ends in ``aug`` takes
    its masks from ``SegmentationClassAug``, the extra annotations of Hariharan et al. (ICCV 2011).

    Args:
        root: a year's folder, such as ``VOCdevkit/VOC2012``.
        split: name of a list, such as ``train``, ``val``, ``trainval`` or ``trainaug``.
    """

    def __init__(self, root: str, split: str) -> None:
        self.root = root
        self.split = split

    def labels(self, root: Path | None) -> SourceLabels:
        palette = {name: voc_colour(index) for index, name in enumerate(NAMES)}
        return SourceLabels(NAMES, {**dict(enumerate(NAMES)), BORDER: None}, palette)

    def samples(self, root: Path | None) -> list[Sample]:
        base = resolve(self.root, root)
        lists = base / "ImageSets" / "Segmentation"
        file = lists / f"{self.split}.txt"
        if not is_file(file):
            names = (name.removesuffix(".txt") for name in names_in(lists) if name.endswith(".txt"))
            there = ", ".join(sorted(names)) or "no list at all"
            raise DataError(f"VOC: {file} does not exist: in {lists} there is {there}; check data.root, root and split")
        masks = "SegmentationClassAug" if self.split.endswith("aug") else "SegmentationClass"
        return Folder(images=str(base / "JPEGImages"), masks=str(base / masks), list=str(file)).samples(None)


def voc_colour(index: int) -> Colour:
    """Colour of a class in VOC's palette: the bits of its index in turn, highest first, to red, green and blue.

    >>> voc_colour(15)
    (192, 128, 128)
    """
    red = green = blue = 0
    for bit in range(8):
        red |= (index >> (3 * bit) & 1) << (7 - bit)
        green |= (index >> (3 * bit + 1) & 1) << (7 - bit)
        blue |= (index >> (3 * bit + 2) & 1) << (7 - bit)
    return red, green, blue
