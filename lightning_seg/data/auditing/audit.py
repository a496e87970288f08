"""Audits a whole data set: adds up the figures of each split and collects every defect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_seg.data.auditing.absent import absent_classes
from lightning_seg.data.auditing.examine import Examination
from lightning_seg.data.auditing.lines import PixelKeys, advice_on_pixels, advice_on_refused
from lightning_seg.data.auditing.pool import Track, examine_all
from lightning_seg.data.auditing.seen import SeenLabel, by_name, seen_labels
from lightning_seg.data.auditing.statistics import WEIGHT_FORMULA, SplitStatistics, class_weights
from lightning_seg.data.auditing.unlike import FlatBands, Forms
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
        advice: texts with lines of a config for the pixels of that split.
        bands: names of the channels, for tables.
    """

    info: DatasetInfo
    splits: dict[str, SplitStatistics]
    labels: dict[str, list[SeenLabel]]
    defects: list[Defect]
    weights: list[float]
    advice: list[str]
    bands: list[str]

    @property
    def reference(self) -> SplitStatistics:
        """Figures of ``train``, or of the first split if there is none."""
        return next(iter(self.splits.values()))

    def as_json(self) -> dict[str, object]:
        """The content of ``audit.json``; ``mean`` and ``std`` are those of ``train``, in the order of the bands."""
        pixels = self.reference.usual_pixels
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
            "mean": [] if pixels is None else pixels.mean,
            "std": [] if pixels is None else pixels.std,
            "class_weights": {
                "formula": WEIGHT_FORMULA,
                "weights": dict(zip(self.info.names, self.weights, strict=True)),
            },
            "defects": [defect.as_json() for defect in self.defects],
        }


def audit(
    listings: Mapping[str, Listing],
    info: DatasetInfo,
    track: Track,
    known: Sequence[Defect] = (),
    keys: PixelKeys = PixelKeys(),  # noqa: B008  # frozen
) -> Audit:
    """Read every file once; images that are refused for their bits or bands, twice.

    Args:
        listings: by split, ``train`` first.
        info: class names and the ignore index.
        track: shows how far it is.
        known: defects of the settings.
        keys: what the network's config calls mean and standard deviation.
    """
    splits = {split: SplitStatistics(info.num_classes, len(listing.samples)) for split, listing in listings.items()}
    defects = [*known, *(defect for listing in listings.values() for defect in listing.defects)]
    twins, forms = _Twins(), Forms()
    flat = {split: FlatBands(split, listing.rules.bands or ()) for split, listing in listings.items()}
    # A test on the same files as val is no leak: it is val under another name.
    tests_on_val = "val" in listings and "test" in listings and listings["val"].samples == listings["test"].samples
    for examination in examine_all(listings, track):
        defects += examination.defects
        figures = splits[examination.split]
        if examination.size is not None and examination.values is not None:
            figures.add_image(examination.size, examination.values)
            flat[examination.split].add(examination.image, examination.values)
        if examination.form is not None:
            forms.add(examination.split, examination.image, examination.form)
        if examination.refused is not None:
            figures.add_refused(examination.refused)
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
    defects += forms.defects()
    for split, figures in splits.items():
        defects += flat[split].defects()
        defects += absent_classes(split, figures, listings[split], info, whole=True)
    reference = next(iter(splits.values()))
    weights = class_weights(reference.class_pixels, reference.pixels_beside)
    labels = {split: seen_labels(figures.labels, listings[split].tables) for split, figures in splits.items()}
    rules = next(iter(listings.values())).rules
    bands = ["red", "green", "blue"] if rules.bands is None else [f"band {number}" for number in rules.bands]
    pixels = reference.usual_pixels
    advice = [] if pixels is None else advice_on_pixels(pixels, keys, banded=rules.bands is not None)
    ordered = _with_settings(without_repeats(defects), reference, keys)
    return Audit(info, splits, labels, ordered, weights, advice, bands)


def _with_settings(defects: list[Defect], figures: SplitStatistics, keys: PixelKeys) -> list[Defect]:
    """Add the settings that let most images pass to the first defect of those that are refused for want of them."""
    refused = figures.usual_refused
    first = next((index for index, defect in enumerate(defects) if defect.kind == "unfit"), None)
    if refused is None or first is None:
        return defects
    first_one = replace(defects[first], remedy=advice_on_refused(refused, keys))
    return [*defects[:first], first_one, *defects[first + 1 :]]


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
