"""Audits a whole data set: adds up the figures of each split and collects every defect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_seg.data.auditing.absent import absent_classes
from lightning_seg.data.auditing.examine import Examination
from lightning_seg.data.auditing.pool import Track, examine_all
from lightning_seg.data.auditing.seen import SeenLabel, by_name, seen_labels
from lightning_seg.data.auditing.statistics import WEIGHT_FORMULA, SplitStatistics, class_weights, no_pixels
from lightning_seg.data.listing.defects import Defect, without_repeats
from lightning_seg.data.listing.splits import Listing
from lightning_seg.sources import AnyFile
from lightning_seg.structures import DatasetInfo


@dataclass
class Audit:
    """What a data set holds and what is wrong with it.

    Attributes:
        info: names and palette.
        splits: figures, by split.
        labels: what the mask files hold, by split, the commonest first.
        defects: ordered by kind.
        weights: of a loss, one a class, by ``WEIGHT_FORMULA`` over ``train``, or over the first split if there is none.
    """

    info: DatasetInfo
    splits: dict[str, SplitStatistics]
    labels: dict[str, list[SeenLabel]]
    defects: list[Defect]
    weights: list[float]

    def as_json(self) -> dict[str, object]:
        """The content of ``audit.json``; ``mean`` and ``std`` are those of ``train``, RGB, 0 to 255."""
        first = next(iter(self.splits.values()))
        return {
            "splits": {
                split: {
                    **figures.as_json(self.info.names),
                    "labels": {
                        name: {"meaning": label.meaning, "pixels": label.pixels}
                        for name, label in by_name(self.labels[split]).items()
                    },
                }
                for split, figures in self.splits.items()
            },
            "mean": first.moments.mean.tolist(),
            "std": first.moments.std.tolist(),
            "class_weights": {
                "formula": WEIGHT_FORMULA,
                "weights": dict(zip(self.info.names, self.weights, strict=True)),
            },
            "defects": [defect.as_json() for defect in self.defects],
        }


def audit(listings: Mapping[str, Listing], info: DatasetInfo, track: Track, known: Sequence[Defect] = ()) -> Audit:
    """Read every file once.

    Args:
        listings: by split, ``train`` first.
        info: class names and the ignore index.
        track: shows how far it is.
        known: defects of the settings.
    """
    splits = {
        split: SplitStatistics(info.num_classes, len(listing.samples), moments=no_pixels(info.channels))
        for split, listing in listings.items()
    }
    defects = [*known, *(defect for listing in listings.values() for defect in listing.defects)]
    twins = _Twins()
    # A test on the same files as val is no leak: it is val under another name.
    tests_on_val = "val" in listings and "test" in listings and listings["val"].samples == listings["test"].samples
    for examination in examine_all(listings, track):
        defects += examination.defects
        figures = splits[examination.split]
        if examination.size is not None and examination.moments is not None:
            figures.add_image(examination.size, examination.moments)
        if examination.class_pixels is not None:
            figures.add_mask(
                examination.class_pixels,
                examination.ignored,
                examination.unknown,
                examination.labels,
                examination.source,
            )
        if not (tests_on_val and examination.split == "test"):
            defects += twins.meet(examination)
    for split, figures in splits.items():
        defects += absent_classes(split, figures, listings[split], info, whole=True)
    reference = next(iter(splits.values()))
    weights = class_weights(reference.class_pixels, reference.pixels_beside)
    labels = {split: seen_labels(figures.labels, listings[split].tables) for split, figures in splits.items()}
    return Audit(info, splits, labels, without_repeats(defects), weights)


class _Twins:
    """Remembers images, to find equal ones."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[str, AnyFile]] = {}
        self._in_split: dict[tuple[str, bytes], AnyFile] = {}

    def meet(self, seen: Examination) -> list[Defect]:
        """Report an image that equals one that came before; one defect, even if it equals several."""
        if seen.digest is None:
            return []
        split, first = self._first.setdefault(seen.digest, (seen.split, seen.image))
        here = self._in_split.setdefault((seen.split, seen.digest), seen.image)
        if here is not seen.image:
            return [Defect("duplicate", seen.split, str(seen.image), f"has the pixels of {here}", refused=False)]
        if split != seen.split:
            detail = f"has the pixels of {first} in data.{split}, which makes figures too good"
            return [Defect("leak", seen.split, str(seen.image), detail, refused=False)]
        return []
