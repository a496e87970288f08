"""Lists each split of an experiment once, for all who ask before its run."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_warn

from lightning_seg.data.archives.index import forget
from lightning_seg.data.archives.places import is_folder
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.listing.defects import EVERY_DEFECT
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.listing.splits import Listing, list_split
from lightning_seg.data.readers import Reader
from lightning_seg.data.readers.several import Readers
from lightning_seg.data.reading import ReadingRules, type_of_image
from lightning_seg.errors import ConfigError, DataError, UnfitImageError, UnreadableError
from lightning_seg.structures import Sample


class Listings:
    """The splits of an experiment.

    Args:
        readers: by split.
        predict: ``data.predict``.
        root: ``data.root``; paths are relative to it.
        labelling: how stored values become classes.
        rules: what may be read.
    """

    def __init__(
        self,
        readers: Readers,
        predict: Sequence[str] | str | Reader | None,
        root: Path | None,
        labelling: Labelling,
        rules: ReadingRules,
    ) -> None:
        self.readers = readers
        self.predict = predict
        self.root = root
        self.labelling = labelling
        self.rules = rules
        self._splits: dict[str, Listing] = {}
        self._predicted: list[Sample] | None = None

    def has(self, part: str) -> bool:
        """Whether the experiment has a split; images to predict count as one."""
        return self.predict is not None if part == "predict" else bool(self.readers[part])

    def samples(self, part: str) -> list[Sample]:
        """The samples of a split, or those to predict."""
        return self.images_to_predict() if part == "predict" else self.split(part).samples

    def prepare(self) -> None:
        """Let the readers write what they make.

        Raises:
            DataError: if the root is not there after that.
        """
        for reader in self._used():
            reader.prepare(self.root)
        self.refuse_missing_root()

    def refuse_missing_root(self) -> None:
        """Raise a DataError if the root is not there."""
        if self.root is not None and not is_folder(self.root):
            raise DataError(f"data.root {self.root} does not exist: name the folder that the readers' paths are below")

    def split(self, part: str) -> Listing:
        """List a split once, by :func:`list_split`."""
        if part not in self._splits:
            self._splits[part] = list_split(part, self.readers[part], self.root, self.labelling, self.rules)
        return self._splits[part]

    def complete(self, part: str) -> Listing:
        """A split in which every file has its partner.

        Raises:
            DataError: if a file has none.
        """
        listing = self.split(part)
        if listing.refusal is not None:
            raise DataError(f"data.{part}: {listing.refusal}\n{EVERY_DEFECT}")
        return listing

    def images_to_predict(self) -> list[Sample]:
        """The images of ``data.predict``, without masks.

        Raises:
            ConfigError: if ``data.predict`` is not given.
            DataError: if there is no image.
        """
        if self._predicted is None:
            if self.predict is None:
                raise ConfigError("predict needs images: --data.predict IMAGE, FOLDER, 'GLOB', LIST.txt or VIDEO")
            if isinstance(self.predict, Reader):
                self._predicted = [replace(sample, mask=None) for sample in self.predict.samples(self.root)]
            else:
                self._predicted = images_to_predict(self.predict, self.root, self._used())
        return self._predicted

    def type_of_images(self, parts: Sequence[str]) -> str:
        """NumPy's name of the type that images of some splits are read as: that of the first one that can be read.

        Raises:
            DataError: from a reader.
        """
        for part in filter(self.has, parts):
            for sample in self.samples(part):
                with suppress(UnreadableError, UnfitImageError):  # is told where it is read
                    return type_of_image(sample.image, self.rules)
        return "uint8"

    def take(self, part: str, command: str) -> Listing:
        """Do as :meth:`complete`, and keep the listing no longer; a warning says what is left out.

        Raises:
            ConfigError: if ``command`` has no reader for it.
        """
        if not self.has(part):
            raise ConfigError(f"{command} needs data.{part}: give it a reader, such as lightning_seg.data.Folder")
        listing = self.complete(part)
        del self._splits[part]
        if listing.left_out is not None:
            rank_zero_warn(f"data.{part}: {listing.left_out}")
        return listing

    def release(self) -> None:
        """Let the readers forget what they have read; also the indexes of archives, which workers would copy."""
        for reader in self._used():
            reader.release()
        forget()

    def _used(self) -> list[Reader]:
        of_splits = [reader for readers in self.readers.values() for reader in readers]
        return [*of_splits, self.predict] if isinstance(self.predict, Reader) else of_splits
