"""Lists the samples of a split, and what is wrong with it before any file is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning_seg.data.archives.index import forget
from lightning_seg.data.archives.places import is_file
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.listing.defects import Defect
from lightning_seg.data.readers import Reader
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.readers.several import Readers, joined, settings_of
from lightning_seg.data.reading import USUAL, ReadingRules
from lightning_seg.structures import Annotations, Sample, Segment, SourceLabels


@dataclass
class Listing:
    """A split that has been listed.

    Attributes:
        samples: the complete samples.
        tables: what their labels mean, by the source of a sample.
        defects: files without a partner.
        refusal: the error of a run about those; None where there are none.
        lost: classes whose value is ignored in all sources that name them.
        left_out: the warning of a run about what it leaves out; None where there is nothing.
        rules: what may be read.
    """

    samples: list[Sample]
    tables: list[LabelTable]
    defects: list[Defect] = field(default_factory=list)
    refusal: str | None = None
    lost: list[str] = field(default_factory=list)
    left_out: str | None = None
    rules: ReadingRules = USUAL

    def table_of(self, sample: Sample) -> LabelTable:
        """What the labels of a sample mean."""
        return self.tables[sample.source]


def list_splits(
    readers: Readers,
    root: Path | None,
    labelling: Labelling,
    rules: ReadingRules = USUAL,
) -> dict[str, Listing]:
    """List every split that has a reader, as :func:`list_split` does; the readers keep nothing."""
    listings = {split: list_split(split, some, root, labelling, rules) for split, some in readers.items() if some}
    for reader in (reader for some in readers.values() for reader in some):
        reader.release()
    forget()
    return listings


def list_split(
    split: str,
    readers: Sequence[Reader],
    root: Path | None,
    labelling: Labelling,
    rules: ReadingRules = USUAL,
) -> Listing:
    """List a split: the samples of each reader, one reader's after the other's.

    Raises:
        ConfigError: if a table of labels cannot be made.
        DataError: if nothing can be listed.
    """
    sources = [reader.labels(root) for reader in readers]
    settings = settings_of(split, readers)
    tables = [
        labelling.table(source, setting, reader.own_label_map)
        for source, setting, reader in zip(sources, settings, readers, strict=True)
    ]
    listing = Listing([], tables, rules=rules, lost=_classes_without_a_value(sources, tables))
    parts, refusals = [], []
    for reader in readers:
        try:
            parts.append(reader.samples(root))
        except OrphanError as error:
            listing.defects += [Defect(orphan.kind, split, str(orphan.path), orphan.detail) for orphan in error.orphans]
            parts.append(error.samples)
            refusals.append(str(error))
    listing.samples = joined(parts)
    listing.refusal = "; ".join(refusals) or None
    if bare := _annotations_without_region(listing.samples):
        _take_out(bare, listing, split, skip=labelling.unreadable == "skip")
    return listing


def _annotations_without_region(samples: Sequence[Sample]) -> list[tuple[Annotations, Segment]]:
    return [
        (sample.mask, segment)
        for sample in samples
        if isinstance(sample.mask, Annotations)
        for segment in sample.mask.segments
        if not segment.has_region
    ]


def _take_out(bare: Sequence[tuple[Annotations, Segment]], listing: Listing, split: str, *, skip: bool) -> None:
    """Leave out annotations that are only boxes, or refuse them; either message has their number."""
    source, first = bare[0]
    found = f"{len(bare)} annotations of {source} have no region, such as annotation {first.annotation}"
    if not skip:
        advice = "give them a segmentation, or leave them out with data.unreadable: skip"
        listing.refusal = "; ".join(filter(None, [listing.refusal, f"{found}: {advice}"]))
        return
    listing.left_out = f"{found}: they are left out"
    file = source.file if is_file(source.file) else str(listing.samples[0].image)
    listing.defects.append(Defect("unreadable", split, file, listing.left_out, refused=False))
    listing.samples = [
        replace(
            sample,
            mask=replace(sample.mask, segments=tuple(each for each in sample.mask.segments if each.has_region)),
        )
        if isinstance(sample.mask, Annotations)
        else sample
        for sample in listing.samples
    ]


def _classes_without_a_value(sources: Sequence[SourceLabels | None], tables: Sequence[LabelTable]) -> list[str]:
    classes = tables[0].info.names
    meant: set[int | None] = set()
    for table in tables:
        meant |= {*table.values.values(), *table.colours.values(), table.rest, table.other}
    names = dict.fromkeys(name for source in sources if source is not None for name in source.names)
    return [name for name in names if name in classes and classes.index(name) not in meant]
