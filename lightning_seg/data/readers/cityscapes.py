"""Reads Cityscapes in its own layout."""

from pathlib import Path

from lightning_seg.data.archives.places import is_folder
from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader, existing_split, first_folder
from lightning_seg.data.readers.walking import entries_below
from lightning_seg.structures import Sample, SourceLabels

LABEL_IDS, TRAIN_IDS = "_gtFine_labelIds", "_gtFine_labelTrainIds"
LAST_LABEL_ID = 33


class Cityscapes(Reader):
    """``leftImg8bit/<split>/<city>/`` and ``gtFine/<split>/<city>/`` below ``root``.

    Reads ``*_labelIds.png`` as published: 19 of the 34 ids are trained on, the others are ignored. Reads
    ``*_labelTrainIds.png`` where only those are there. Names and colours are those that Detectron2 lists.

    Args:
        root: folder of ``leftImg8bit`` and ``gtFine``, or of ``leftImg8bit_trainvaltest.zip`` and
            ``gtFine_trainvaltest.zip``.
        split: ``train``, ``val`` or ``test``.
    """

    def __init__(self, root: str, split: str) -> None:
        self.root = root
        self.split = split

    def labels(self, root: Path | None) -> SourceLabels:
        from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

        names = tuple(category["name"] for category in CITYSCAPES_CATEGORIES)
        if self._kind(root) == TRAIN_IDS:
            values: dict[int, str | None] = {**dict(enumerate(names)), 255: None}
        else:
            values = dict.fromkeys(range(LAST_LABEL_ID + 1))
            values.update({category["id"]: category["name"] for category in CITYSCAPES_CATEGORIES})
        return SourceLabels(names, values, {category["name"]: category["color"] for category in CITYSCAPES_CATEGORIES})

    def samples(self, root: Path | None) -> list[Sample]:
        reader = Folder(
            images=str(existing_split(self._part("leftImg8bit", root), self.split)),
            masks=str(existing_split(self._part("gtFine", root), self.split)),
            image_name="{stem}_leftImg8bit",
            mask_name="{stem}" + self._kind(root) + ".png",
        )
        return reader.samples(None)

    def _part(self, name: str, root: Path | None) -> Path:
        """A folder of the data set, unpacked or as it is downloaded."""
        base = resolve(self.root, root)
        return first_folder(base / name, base / f"{name}_trainvaltest.zip" / name)

    def _kind(self, root: Path | None) -> str:
        """The kind of masks that is there. Where there is none, the published kind: prediction needs no data set."""
        found = LABEL_IDS
        masks = self._part("gtFine", root) / self.split
        for path in entries_below(masks) if is_folder(masks) else ():
            if path.stem.endswith(LABEL_IDS):  # mostly in the first city
                return LABEL_IDS
            if path.stem.endswith(TRAIN_IDS):
                found = TRAIN_IDS
        return found
