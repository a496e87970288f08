"""Reads ADE20K's 150 classes (the ``ADEChallengeData2016`` of the scene parsing benchmark)."""

from pathlib import Path

from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader, existing_split, first_folder
from lightning_seg.structures import Sample, SourceLabels

_NAME = "ADEChallengeData2016"
_FOLDERS = {"train": "training", "val": "validation"}


class ADE20K(Reader):
    """``images/training|validation/`` and ``annotations/training|validation/`` below ``root``.

    Stored values are 1 to 150; 0 is what nobody labelled, and is ignored. Names are those that Detectron2 lists.

    Args:
        root: folder of ``images`` and ``annotations``, or ``ADEChallengeData2016.zip``, or the folder that holds it.
        split: ``train`` or ``val``.
    """

    def __init__(self, root: str, split: str) -> None:
        self.root = root
        self.split = _FOLDERS.get(split, split)

    def labels(self, root: Path | None) -> SourceLabels:
        from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES

        names = tuple(ADE20K_SEM_SEG_CATEGORIES)
        return SourceLabels(names, {0: None, **dict(enumerate(names, start=1))}, {})

    def samples(self, root: Path | None) -> list[Sample]:
        base = resolve(self.root, root)
        images, masks = (
            existing_split(
                first_folder(base / name, base / _NAME / name, base / f"{_NAME}.zip" / _NAME / name), self.split
            )
            for name in ("images", "annotations")
        )
        return Folder(images=str(images), masks=str(masks)).samples(None)
