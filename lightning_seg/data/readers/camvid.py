"""Reads CamVid as the SegNet tutorial lays it out."""

from pathlib import Path

from lightning_seg.colours import parse_colour
from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader, existing_split
from lightning_seg.structures import Sample, SourceLabels

PALETTE = {
    "Sky": "#808080", "Building": "#800000", "Pole": "#c0c080", "Road": "#804080", "Pavement": "#3c28de",
    "Tree": "#808000", "SignSymbol": "#c08080", "Fence": "#404080", "Car": "#400080", "Pedestrian": "#404000",
    "Bicyclist": "#0080c0",
}  # fmt: skip
"""Colour of each class, in the order of their values; those of the original data set, or near to them."""


class CamVid(Reader):
    """``<split>/`` and ``<split>annot/`` below ``root``: 11 classes as values 0 to 10; 11, unlabelled, is ignored.

    Args:
        root: folder of ``train``, ``trainannot`` and so on.
        split: ``train``, ``val`` or ``test``.
    """

    def __init__(self, root: str, split: str) -> None:
        self.root = root
        self.split = split

    def labels(self, root: Path | None) -> SourceLabels:
        names = tuple(PALETTE)
        palette = {name: parse_colour(colour) for name, colour in PALETTE.items()}
        return SourceLabels(names, {**dict(enumerate(names)), len(names): None}, palette)

    def samples(self, root: Path | None) -> list[Sample]:
        base = resolve(self.root, root)
        images, masks = (existing_split(base, name) for name in (self.split, f"{self.split}annot"))
        return Folder(images=str(images), masks=str(masks)).samples(None)
