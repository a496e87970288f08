"""The defects that a data set can have."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "unreadable",
    "unfit",
    "orphan_image",
    "orphan_mask",
    "size_mismatch",
    "unknown_id",
    "unknown_colour",
    "lossy_mask",
    "absent_class",
    "all_ignored",
    "exif_rotation",
    "duplicate",
    "leak",
    "ignore_is_class",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MEANINGS: dict[Kind, str] = {
    "unreadable": "Images and masks that cannot be read whole, and regions that cannot be painted",
    "unfit": "Images of more than 8 bits, three bands or one page, and files of more pixels than are allowed",
    "orphan_image": "Images without a mask",
    "orphan_mask": "Masks without an image",
    "size_mismatch": "Masks of another size than their image",
    "unknown_id": "Mask values that stand for no class",
    "unknown_colour": "Mask colours that data.palette does not name",
    "lossy_mask": "Masks whose labels were smoothed or compressed",
    "absent_class": "Classes that a split has no pixel of",
    "all_ignored": "Masks in which no pixel counts",
    "exif_rotation": "Images stored turned, with an EXIF orientation",
    "duplicate": "Images that a split has more than once",
    "leak": "Images that are in two splits",
    "ignore_is_class": "Ignored pixels and a class that share a value",
}


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing to mend.

    Attributes:
        kind: what it is.
        split: ``train``, ``val`` or ``test``; of a setting that holds for all: the first.
        path: the file or folder to look at.
        detail: what was found and what to do.
        refused: whether a run would stop at it.
    """

    kind: Kind
    split: str
    path: str
    detail: str
    refused: bool = True

    def as_json(self) -> dict[str, str]:
        """As ``audit.json`` holds it."""
        return {"kind": self.kind, "split": self.split, "path": self.path, "detail": self.detail}


def without_repeats(defects: list[Defect]) -> list[Defect]:
    """Name once what several splits share, such as an orphan in a folder that is split by chance; ordered by kind."""
    first: dict[tuple[str, str, str], Defect] = {}
    for defect in defects:
        first.setdefault((defect.kind, defect.path, defect.detail), defect)
    return sorted(first.values(), key=lambda defect: KINDS.index(defect.kind))
