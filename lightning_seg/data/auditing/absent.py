"""Finds classes that a split has no pixel of, and says whether that makes its figures false."""

from collections import Counter

import yaml

from lightning_seg.colours import Colour
from lightning_seg.data.auditing.seen import in_all, show_shares
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.labels.label_map import IGNORE, REST
from lightning_seg.data.labels.table import LABEL_MAP, LabelTable
from lightning_seg.data.listing.defects import Defect
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.readers.names import common_folder
from lightning_seg.data.readers.several import settings_of
from lightning_seg.structures import Annotations, DatasetInfo, Sample, summarise

MUCH = 0.1
"""Least share of the pixels at which an assumed ignore index may be a class; borders of objects hold less."""


def absent_classes(
    split: str, figures: SplitStatistics, listing: Listing, info: DatasetInfo, *, whole: bool
) -> list[Defect]:
    """Report classes that have no pixel in the samples that were looked at.

    A run is refused for three reasons: a split has no annotations or no counted pixels; ``train`` has only one class;
    an ignore index that nobody chose is probably a class. If only a part of a split was looked at, only the third is
    reported, and only where a single class was seen: the other samples may have what is missing.

    Args:
        split: ``train``, ``val`` or ``test``.
        figures: of the samples that were looked at.
        listing: all samples.
        info: class names and the ignore index.
        whole: whether all samples were looked at.
    """
    problems = _problems(split, figures, listing, info, whole)
    place = _place(listing) if problems else ""
    return [Defect("absent_class", split, place, *problem) for problem in problems]


_CHECK = "check the masks against data.classes, data.label_map and data.ignore_index"


Problem = tuple[str, bool, tuple[str, ...]]
"""A message, whether a run stops at it, and the remedy."""


def _problems(split: str, figures: SplitStatistics, listing: Listing, info: DatasetInfo, whole: bool) -> list[Problem]:
    if listing.samples and not any(_is_annotated(sample) for sample in listing.samples):
        count = len(listing.samples)
        return [(f"none of the {count} images has an annotation: name the file that has them as annotations", True, ())]
    absent = [
        name
        for name, pixels in zip(info.names, figures.class_pixels, strict=True)
        if not pixels and name not in listing.lost
    ]
    if figures.masks and (swallowed := _swallowed(split, figures, listing, absent, whole)):
        return [swallowed]
    if not figures.masks or not absent or not whole:
        return []
    present = [name for name in info.names if name not in absent]
    if figures.masks == len(listing.samples) and (not present or (len(present) == 1 and split == "train")):
        what = f"class {present[0]!r} is alone, so that there is nothing to learn" if present else "no pixel counts"
        return [(f"{what}{_seen(in_all(figures.labels))}: {_CHECK}", True, ())]
    means = "it is not learnt" if split == "train" else "means over classes leave it out"
    named = absent if split != "test" else []  # a test may be of a few images, or of one
    return [(f"data.{split} has no pixel of class {name!r}: {means}", False, ()) for name in named]


def _swallowed(
    split: str, figures: SplitStatistics, listing: Listing, absent: list[str], whole: bool
) -> Problem | None:
    """Report that the ignore index, which nobody chose, is probably the value of an absent class.

    Where several classes are seen, only ``train`` is judged: in other splits, a class may be absent by chance. Of
    several readers, each is judged by itself where it shows a single class: others may show what it has lost.
    """
    several = len(listing.tables) > 1
    for source, (table, reader) in enumerate(zip(listing.tables, settings_of(split, listing.tables), strict=True)):
        labels = figures.labels[source]
        if table.assumed is None or not (pixels := labels[table.assumed]):
            continue
        share = pixels / labels.total()
        seen = {table.values.get(label, table.other) for label in labels if isinstance(label, int)}
        here = [name for index, name in enumerate(table.info.names) if index not in seen and name not in listing.lost]
        lacking = here if several else absent
        alone = table.info.num_classes - len(lacking) <= 1
        if not alone:
            lacking = absent
        if not lacking or (not alone and (split != "train" or share < MUCH or not whole)):
            continue
        looked = "" if whole else f" in {figures.masks} of {len(listing.samples)} masks"
        of_reader = f" of {reader}" if several else ""
        detail = (
            f"no pixel{of_reader} is of class {summarise(list(map(repr, lacking)))}{looked}, but {share:.1%} have the "
            f"value {table.assumed}, which is ignored because data.ignore_index is not set{_seen(labels)}"
        )
        own = reader if several or table.setting != LABEL_MAP else None
        is_class = f"If {table.assumed} is {lacking[0]!r}, write:\n{lines_of_class(table, lacking[0], own)}"
        is_open = f"If it stands for pixels that do not count, write:\ndata:\n  ignore_index: {table.assumed}"
        # If those pixels do not count, there may be nothing to learn.
        nothing_left = whole and alone and split == "train" and not several
        return detail, True, (is_class,) if nothing_left else (is_class, is_open)
    return None


def _place(listing: Listing) -> str:
    """The folder of the masks, the file of the annotations, or the folder of the images."""
    if files := [str(sample.mask_file) for sample in listing.samples if sample.mask_file is not None]:
        return str(common_folder(files))
    masks = [sample.mask for sample in listing.samples]
    sources = sorted({mask.file for mask in masks if isinstance(mask, Annotations)})
    return sources[0] if len(sources) == 1 else str(common_folder([str(sample.image) for sample in listing.samples]))


def _is_annotated(sample: Sample) -> bool:
    return not isinstance(sample.mask, Annotations) or bool(sample.mask.segments)


def lines_of_class(table: LabelTable, name: str, own: str | None = None) -> str:
    """The lines of a config that make the assumed ignore index a class and leave all other values as they are.

    Args:
        table: of the reader.
        name: of the class.
        own: setting of a reader that needs a label map of its own; None: ``data.label_map`` is meant.

    >>> info = DatasetInfo(("background", "person"), 255, ((0, 0, 0), (1, 1, 1)))
    >>> print(lines_of_class(LabelTable(info, {0: 0, 1: 1, 255: 255}, {}, assumed=255), "person"))
    data:
      label_map: {0: background, 255: person}
    """
    names = dict(enumerate(table.info.names))
    meant: dict[int | str, str] = {value: names.get(index, IGNORE) for value, index in sorted(table.values.items())}
    meant = {value: other for value, other in meant.items() if value != table.assumed and other != name}
    assert table.assumed is not None
    meant[table.assumed] = name
    if table.other is not None:
        meant[REST] = names.get(table.other, IGNORE)
    pairs = yaml.safe_dump(meant, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    label_map = f"label_map: {pairs.strip()}"
    return f"data:\n  {label_map}" if own is None else f"{label_map}  # beside the class_path of {own}"


def _seen(labels: Counter[int | Colour]) -> str:
    return f" (values seen: {show_shares(labels)})" if labels else ""
