"""Writes masks in which accepted regions are ignored, in the encoding of their source, never over the originals."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour
from lightning_seg.data.archives.places import located
from lightning_seg.data.labels.table import Ids, LabelTable
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.data.reading.headers import read_header
from lightning_seg.data.reading.masks import StoredMask, read_mask
from lightning_seg.data.reading.storage import InMemory, read_bytes
from lightning_seg.data.stored import read_labels
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.files import absolute, inside, replacing
from lightning_seg.reviewing.annotation_files import AnnotationFile
from lightning_seg.reviewing.class_files import IgnoredClass, with_ignored
from lightning_seg.reviewing.decisions import Decisions
from lightning_seg.reviewing.encoding import with_value
from lightning_seg.reviewing.regions import decode
from lightning_seg.sources import AnyFile, name_below
from lightning_seg.structures import Annotations, Sample, summarise


def write_ignored(decisions: Decisions, listing: Listing, folder: Path, root: Path | None) -> tuple[int, int]:
    """Write all masks of a split, those without accepted regions as they are: the folder can stand in for theirs.

    Args:
        decisions: what is accepted.
        listing: of the split.
        folder: that they are written to, under their paths below ``root``.
        root: ``data.root``.

    Returns:
        How many files are written, and in how many images regions are newly ignored.

    Raises:
        ConfigError: if an original would be written over, or nothing stands for ignored pixels in a source.
        DataError: if a sample is gone, or its mask cannot be written in its encoding; names it.
    """
    known = {sample.name for sample in listing.samples}
    if gone := sorted(decisions.accepted.keys() - known):
        raise DataError(f"the split has no sample {summarise(gone)}: give the data that was reviewed")
    writer = _Writer(decisions, listing, folder, root)
    writer.refuse_originals()
    return writer.write(), len(decisions.accepted)


class _Writer:
    """Writes the masks of a listing, one sample in memory at a time."""

    def __init__(self, decisions: Decisions, listing: Listing, folder: Path, root: Path | None) -> None:
        self.decisions = decisions
        self.listing = listing
        self.folder = folder
        self.root = root
        self.ignored_classes: Mapping[int, IgnoredClass] = {
            source: IgnoredClass.of(masks, table)
            for source, table in enumerate(listing.tables)
            if (masks := self._class_masks(source))
        }

    def refuse_originals(self) -> None:
        """Refuse, before anything is written, to write over any file of the split.

        Raises:
            ConfigError: if an original would be written over.
            DataError: if labels are in no file.
        """
        originals, targets = set(), []
        for sample in self.listing.samples:
            files = self._files(sample)
            targets += [self._target(file, sample) for file in files]
            originals |= {absolute(str(file)).resolve() for file in (*files, sample.image)}
        if hit := [target for target in targets if target.resolve() in originals]:
            raise ConfigError(f"--write_ignored {self.folder} would write over {hit[0]}: give a new folder")

    def write(self) -> int:
        """Write all files; how many they are."""
        shared: dict[Path, AnnotationFile] = {}
        written = 0
        for sample in self.listing.samples:
            if isinstance(sample.mask, Annotations):
                target = self._target(AnnotationFile.path_of(sample), sample)
                if target not in shared:
                    shared[target] = AnnotationFile(sample.mask, self.listing.table_of(sample))
                if sample.name in self.decisions.accepted:
                    labels = self._labels(sample)
                    shared[target].ignore(sample, self._region(sample, labels.shape), labels)
                continue
            for file, data in self._contents(sample):
                self._write(self._target(file, sample), file, data)
                written += 1
        for target, annotations in shared.items():
            self._write(target, located(annotations.path), annotations.data())
        return written + len(shared)

    def _class_masks(self, source: int) -> list[ClassMasks]:
        masks = [sample.mask for sample in self.listing.samples if sample.source == source]
        return [mask for mask in masks if isinstance(mask, ClassMasks)]

    def _files(self, sample: Sample) -> list[AnyFile]:
        """All files that hold the labels of a sample."""
        if isinstance(sample.mask, Annotations):
            return [AnnotationFile.path_of(sample)]
        if isinstance(sample.mask, ClassMasks):
            return [file for _, file in sample.mask.files]
        return [] if sample.mask is None else [sample.mask]

    def _target(self, file: AnyFile, sample: Sample) -> Path:
        """Where a file is written: at its path below the root, or below its folder's name where it lies elsewhere."""
        name = Path(name_below(file if isinstance(file, Path) else Path(str(file)), self.root))
        if name.is_absolute():
            alone = not isinstance(sample.mask, Annotations | ClassMasks)
            name = Path(sample.name + name.suffix) if alone else Path(*name.parts[-2:])
        return inside(self.folder, str(name))

    def _contents(self, sample: Sample) -> Iterator[tuple[AnyFile, bytes | None]]:
        """The mask files of a sample, and their bytes if they are new."""
        accepted = sample.name in self.decisions.accepted
        if isinstance(sample.mask, ClassMasks):
            shape = read_mask(sample.mask).size
            region = self._region(sample, shape) if accepted else np.zeros(shape, bool)
            yield from with_ignored(
                sample.mask, region, self.ignored_classes[sample.source], self.listing.table_of(sample)
            )
            return
        mask = sample.mask_file
        assert mask is not None
        yield mask, self._changed(sample, mask, self.listing.table_of(sample)) if accepted else None

    def _changed(self, sample: Sample, mask: AnyFile, table: LabelTable) -> bytes:
        stored = read_mask(mask, self.listing.rules)
        before = table.decode(stored, mask).copy()
        region = self._region(sample, stored.size)
        before[region] = table.info.ignore_index
        new = with_value(mask, region, ignored_value(mask, stored, table))
        try:
            after = table.decode(read_mask(InMemory(str(mask), new), self.listing.rules), mask)
        except DataError as error:
            raise DataError(f"mask {mask} cannot be written in its own encoding ({error})") from None
        if not np.array_equal(after, before):
            raise DataError(f"mask {mask} cannot be written in its own encoding: it would read otherwise")
        return new

    def _labels(self, sample: Sample) -> Ids:
        size = read_header(sample.image, "image").upright
        return read_labels(sample, size, self.listing.table_of(sample), self.listing.rules)

    def _region(self, sample: Sample, size: tuple[int, ...]) -> NDArray[np.bool_]:
        """The accepted pixels of a sample, (H, W)."""
        region = np.zeros(size, bool)
        for runs in self.decisions.accepted[sample.name]:
            try:
                region |= decode(runs, (size[0], size[1]))
            except ValueError as error:
                raise DataError(f"mask {sample.mask} is of another size than when it was reviewed: {error}") from None
        return region

    @staticmethod
    def _write(target: Path, file: AnyFile, data: bytes | None) -> None:
        """Write new bytes, or those of the file itself."""
        if data is None and isinstance(file, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            return
        with replacing(target) as output:
            output.write(read_bytes(file) if data is None else data)


def ignored_value(mask: AnyFile, stored: StoredMask, table: LabelTable) -> int | Colour:
    """The stored value, or the colour, of ignored pixels.

    Raises:
        ConfigError: if there is none.
    """
    ignore = table.info.ignore_index
    by_colour = stored.values is None
    if stored.palette is not None and table.colours:  # the palette may decide
        used = {tuple(map(int, colour)) for colour in stored.palette}
        by_colour = bool(used & set(table.colours))
    if by_colour:
        colours = [colour for colour, index in table.colours.items() if index == ignore]
        if colours:
            return colours[0]
        raise ConfigError(f"{mask} stores colours, and none is ignored: name one, data.palette: {{ignore: '#000000'}}")
    values = [value for value, index in table.values.items() if index == ignore]
    if values:
        return ignore if ignore in values else values[0]
    raise ConfigError(f"no stored value of {mask} is ignored: name one with {table.setting}, {{255: ignore}}")
