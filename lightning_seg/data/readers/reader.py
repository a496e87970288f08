"""Defines what every reader of a source format offers: a list of samples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightning_seg.data.archives.places import is_folder, names_in
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Sample, SourceLabels


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file that another one should go with.

    Attributes:
        kind: ``orphan_image``: it has no mask; ``orphan_mask``: it has no image; ``lossy_mask``: it would be the mask,
            but is a JPEG; ``unreadable``: neither is there, or it is a link that leads nowhere.
        path: of the file that is there; of the image, or the link, where none is.
        detail: what is missing, where, and what to do.
    """

    kind: Literal["orphan_image", "orphan_mask", "lossy_mask", "unreadable"]
    path: AnyFile
    detail: str


class OrphanError(DataError):
    """Images and masks do not match one to one.

    Attributes:
        samples: those that do, sorted by name.
        orphans: all that do not.
    """

    def __init__(self, message: str, samples: Sequence[Sample], orphans: Sequence[Orphan]) -> None:
        super().__init__(message)
        self.samples = list(samples)
        self.orphans = list(orphans)


class Reader(ABC):
    """Turns one source format into a list of :class:`~lightning_seg.structures.Sample`.

    A reader only finds files, or says where else their bytes are (:class:`~lightning_seg.sources.ByteSource`); decoding
    and checking their content is the data set's work. Relative paths in its arguments are relative to the ``root`` that
    the data module passes (``data.root``).
    """

    def prepare(self, root: Path | None) -> None:
        """Write to disk whatever must exist before reading; called once a machine, before :meth:`samples`."""
        return

    @property
    def prepares(self) -> bool:
        """Whether :meth:`prepare` writes anything, so that samples may differ before and after it."""
        return type(self).prepare is not Reader.prepare

    def labels(self, root: Path | None) -> SourceLabels | None:
        """What the source says of its own labels; None: its masks hold whatever ``data`` says.

        Raises:
            DataError: if the file that says so cannot be read.
        """
        return None

    @property
    def own_label_map(self) -> Mapping[int | str, str] | None:
        """What stored values stand for, in place of ``data.label_map``; None: that holds. ``Labelled`` gives one."""
        return None

    def release(self) -> None:
        """Forget what was read for :meth:`labels` and :meth:`samples`; called once all is listed."""
        return

    @abstractmethod
    def samples(self, root: Path | None) -> list[Sample]:
        """Find the samples, sorted by name.

        Raises:
            DataError: if there are none.
            OrphanError: if images and masks do not match one to one; the audit lists what it carries.
        """


class Wrapper(Reader):
    """Reads what another reader reads; a subclass chooses among its samples, or says what its labels mean.

    Args:
        of: the other reader.
    """

    def __init__(self, of: Reader) -> None:
        self.of = of

    def prepare(self, root: Path | None) -> None:
        self.of.prepare(root)

    @property
    def prepares(self) -> bool:
        return self.of.prepares

    def labels(self, root: Path | None) -> SourceLabels | None:
        return self.of.labels(root)

    @property
    def own_label_map(self) -> Mapping[int | str, str] | None:
        return self.of.own_label_map

    def samples(self, root: Path | None) -> list[Sample]:
        return self.of.samples(root)

    def release(self) -> None:
        self.of.release()


def first_folder(*places: Path) -> Path:
    """The first of the places where a data set may lie that is a folder; the very first where none is."""
    return next((place for place in places if is_folder(place)), places[0])


def existing_split(folder: Path, split: str) -> Path:
    """The folder of a split.

    Raises:
        DataError: if it is not there, naming those that are.
    """
    if is_folder(folder / split):
        return folder / split
    there = ", ".join(sorted(name for name in names_in(folder) if is_folder(folder / name))) or "nothing"
    raise DataError(f"{folder / split} does not exist: in {folder} there is {there}; check data.root, root and split")
