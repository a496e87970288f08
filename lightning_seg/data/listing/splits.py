"""Lists the samples of a split, and what is wrong with it before any file is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning_seg.data.archives.index import forget
from lightning_seg.data.archives.places import is_file
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.listing.defects import Defect
from lightning_seg.data.readers import Reader
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.reading import USUAL, ReadingRules
from lightning_seg.structures import Annotations, Sample, Segment, SourceLabels


@dataclass
class Listing:
    """A split that has been listed.

    Attributes:
        samples: the complete samples.
        table: what their labels mean.
        defects: files without a partner.
        refusal: the error of a run about those; None where there are none.
        lost: classes whose value in the source is ignored.
        left_out: the warning of a run about what it leaves out; None where there is nothing.
        rules: what may be read.
    """

    samples: list[Sample]
    table: LabelTable
    defects: list[Defect] = field(default_factory=list)
    refusal: str | None = None
    lost: list[str] = field(default_factory=list)
    left_out: str | None = None
    rules: ReadingRules = USUAL


def list_splits(
    readers: Mapping[str, Reader | None],
    root: Path | None,
    labelling: Labelling,
    rules: ReadingRules = USUAL,
) -> dict[str, Listing]:
    """List every split that has a reader, as :func:`list_split` does; the readers keep nothing."""
    used = {split: reader for split, reader in readers.items() if reader is not None}
    listings = {split: list_split(split, reader, root, labelling, rules) for split, reader in used.items()}
    for reader in used.values():
        reader.release()
    forget()
    return listings


def list_split(
    split: str,
    reader: Reader,
    root: Path | None,
    labelling: Labelling,
    rules: ReadingRules = USUAL,
) -> Listing:
    """List a split.

    Raises:
        ConfigError: if a table of labels cannot be made.
        DataError: if nothing can be listed.
    """
    source = reader.labels(root)
    table = labelling.table(source, f"data.{split}")
    try:
        listing = Listing(reader.samples(root), table)
    except OrphanError as error:
        defects = [Defect(orphan.kind, split, str(orphan.path), orphan.detail) for orphan in error.orphans]
        listing = Listing(error.samples, table, defects, str(error))
    listing.rules = rules
    listing.lost = _classes_without_a_value(source, table)
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


def _classes_without_a_value(source: SourceLabels | None, table: LabelTable) -> list[str]:
    meant = {*table.values.values(), *table.colours.values(), table.rest, table.other}
    names = [] if source is None else source.names
    return [name for name in names if name in table.info.names and table.info.names.index(name) not in meant]
