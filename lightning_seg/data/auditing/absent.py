"""Finds classes that a split has no pixel of, and says whether that makes its figures false."""

import yaml

from lightning_seg.data.auditing.seen import show_shares
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.labels.label_map import IGNORE, REST
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.listing.defects import Defect
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.readers.names import common_folder
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
    if not figures.masks or not absent:
        return []
    if swallowed := _swallowed(split, figures, listing, absent, whole):
        return [swallowed]
    if not whole:
        return []
    present = [name for name in info.names if name not in absent]
    if figures.masks == len(listing.samples) and (not present or (len(present) == 1 and split == "train")):
        what = f"class {present[0]!r} is alone, so that there is nothing to learn" if present else "no pixel counts"
        return [(f"{what}{_seen(figures)}: {_CHECK}", True, ())]
    means = "it is not learnt" if split == "train" else "means over classes leave it out"
    named = absent if split != "test" else []  # a test may be of a few images, or of one
    return [(f"data.{split} has no pixel of class {name!r}: {means}", False, ()) for name in named]


def _swallowed(
    split: str, figures: SplitStatistics, listing: Listing, absent: list[str], whole: bool
) -> Problem | None:
    """Report that the ignore index, which nobody chose, is probably the value of an absent class.

    Where several classes are seen, only ``train`` is judged: in other splits, a class may be absent by chance.
    """
    table = listing.table
    if table.assumed is None or not (pixels := figures.labels[table.assumed]):
        return None
    share = pixels / figures.labels.total()
    alone = table.info.num_classes - len(absent) <= 1
    if not alone and (split != "train" or share < MUCH or not whole):
        return None
    looked = "" if whole else f" in {figures.masks} of {len(listing.samples)} masks"
    detail = (
        f"no pixel is of class {summarise(list(map(repr, absent)))}{looked}, but {share:.1%} have the value "
        f"{table.assumed}, which is ignored because data.ignore_index is not set{_seen(figures)}"
    )
    is_class = f"If {table.assumed} is {absent[0]!r}, write:\n{lines_of_class(table, absent[0])}"
    is_open = f"If it stands for pixels that do not count, write:\ndata:\n  ignore_index: {table.assumed}"
    nothing_left = whole and alone and split == "train"  # if those pixels do not count, there is nothing to learn
    return detail, True, (is_class,) if nothing_left else (is_class, is_open)


def _place(listing: Listing) -> str:
    """The folder of the masks, the file of the annotations, or the folder of the images."""
    if files := [str(sample.mask_file) for sample in listing.samples if sample.mask_file is not None]:
        return str(common_folder(files))
    masks = [sample.mask for sample in listing.samples]
    sources = sorted({mask.file for mask in masks if isinstance(mask, Annotations)})
    return sources[0] if len(sources) == 1 else str(common_folder([str(sample.image) for sample in listing.samples]))


def _is_annotated(sample: Sample) -> bool:
    return not isinstance(sample.mask, Annotations) or bool(sample.mask.segments)


def lines_of_class(table: LabelTable, name: str) -> str:
    """The lines of a config that make the assumed ignore index a class and leave all other values as they are.

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
    return f"data:\n  label_map: {pairs.strip()}"


def _seen(figures: SplitStatistics) -> str:
    return f" (values seen: {show_shares(figures.labels)})" if figures.labels else ""
