"""Collects the images and masks of two folders that do not match, and refuses all of them at once."""

from collections.abc import Sequence
from pathlib import Path

from lightning_seg.data.readers.finding import why_missing
from lightning_seg.data.readers.reader import Orphan, OrphanError
from lightning_seg.structures import Sample, summarise


class Mismatches:
    """What is wrong between a folder of images and one of masks.

    Args:
        images: the folder, for messages.
        masks: likewise.
    """

    def __init__(self, images: Path, masks: Path) -> None:
        self._images = images
        self._masks = masks
        self._messages: list[str] = []
        self._orphans: list[Orphan] = []

    def add(self, message: str, orphans: Sequence[Orphan]) -> None:
        """Add orphans that one message describes; nothing if there are none."""
        if orphans:
            self._messages.append(message)
            self._orphans += orphans

    def add_masks_alone(self, names: Sequence[str], files: Sequence[Path]) -> None:
        """Add masks that have no image.

        Args:
            names: as a message shows them.
            files: likewise many.
        """
        self.add(
            f"{len(names)} masks in {self._masks} have no image in {self._images}: {summarise(names)}; add the images "
            "or remove the masks",
            [Orphan("orphan_mask", file, f"has no image in {self._images}") for file in files],
        )

    def add_lost(self, files: Sequence[Path]) -> None:
        """Add files that cannot be opened, such as links that lead nowhere."""
        orphans = [Orphan("unreadable", file, why_missing(file)) for file in files]
        if orphans:
            self.add(f"{len(files)} files cannot be opened, the first of them: {orphans[0].detail}", orphans)

    def refuse(self, samples: Sequence[Sample]) -> None:
        """Do nothing if nothing was added.

        Args:
            samples: those that match.

        Raises:
            OrphanError: with all that was added.
        """
        if self._messages:
            raise OrphanError("; ".join(self._messages), samples, self._orphans)
