"""Defines the defects that a data set can have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "unreadable",
    "unfit",
    "orphan_image",
    "orphan_mask",
    "size_mismatch",
    "other_grid",
    "unknown_id",
    "unknown_colour",
    "lossy_mask",
    "absent_class",
    "all_ignored",
    "exif_rotation",
    "other_bands",
    "other_type",
    "other_resolution",
    "all_nodata",
    "constant_band",
    "duplicate",
    "leak",
    "ignore_is_class",
]

COMMAND = "python -m lightning_seg.audit --config …"
EVERY_DEFECT = f"{COMMAND} reads all files and lists every defect"
"""The advice of a run that stops at the first defects."""

KINDS: tuple[Kind, ...] = get_args(Kind)

MEANINGS: dict[Kind, str] = {
    "unreadable": "Images and masks that cannot be read whole, and regions that cannot be painted",
    "unfit": "Images of bits, bands or pages that the settings do not read, and files of more pixels than are allowed",
    "orphan_image": "Images without a mask",
    "orphan_mask": "Masks without an image",
    "size_mismatch": "Masks of another size than their image",
    "other_grid": "Masks that lie elsewhere on the earth than their image",
    "unknown_id": "Mask values that stand for no class",
    "unknown_colour": "Mask colours that data.palette does not name",
    "lossy_mask": "Masks whose labels were smoothed or compressed",
    "absent_class": "Classes that a split has no pixel of",
    "all_ignored": "Masks in which no pixel counts",
    "exif_rotation": "Images stored turned, with an EXIF orientation",
    "other_bands": "Images of another number of bands than most",
    "other_type": "Images whose values are of another type than most",
    "other_resolution": "Images whose pixels are of another size on the ground than most",
    "all_nodata": "Images in which no pixel has data",
    "constant_band": "Bands that have one value at every pixel",
    "duplicate": "Images that a split has more than once",
    "leak": "Images that are in two splits",
    "ignore_is_class": "Ignored pixels and a class that share a value",
}


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing to mend.

    Attributes:
        kind: what it is.
        split: ``train``, ``val`` or ``test``; the first split if a setting of all is wrong.
        path: the file or folder to look at.
        detail: what was found and what to do.
        refused: whether a run would stop at it.
        remedy: lines of a config, and when to write them, one text for each case.
    """

    kind: Kind
    split: str
    path: str
    detail: str
    refused: bool = True
    remedy: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The detail, with the path before it if the detail does not name it."""
        return self.detail if self.path in self.detail else f"{self.path}: {self.detail}"

    def as_json(self) -> dict[str, str]:
        """As ``audit.json`` holds it."""
        detail = "\n".join([self.detail, *self.remedy])
        return {"kind": self.kind, "split": self.split, "path": self.path, "detail": detail}


def remedies(defects: Sequence[Defect]) -> list[str]:
    """Each text once."""
    return list(dict.fromkeys(text for defect in defects for text in defect.remedy))


def without_repeats(defects: list[Defect]) -> list[Defect]:
    """Name a defect once if several splits share it, as of a folder that is split at random; order defects by kind."""
    first: dict[tuple[str, str, str], Defect] = {}
    for defect in defects:
        first.setdefault((defect.kind, defect.path, defect.detail), defect)
    return sorted(first.values(), key=lambda defect: KINDS.index(defect.kind))
