"""Finds images that are unlike the others of their data set, and bands and images that hold nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_seg.data.auditing.values import PixelValues
from lightning_seg.data.listing.defects import Defect, Kind
from lightning_seg.data.reading import Header, ReadingRules
from lightning_seg.data.reading.grid import Grid
from lightning_seg.sources import AnyFile

NEAR = 0.01
"""Ground resolutions are one if they differ by no more than this part."""

Ground = tuple[float, float, str]
"""Width and height of a pixel on the earth, and their unit."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the file of an image says of its pixels.

    Attributes:
        bands: how many it has, alpha too, as GDAL counts.
        type: what their values are, for messages.
        ground: of a GeoTIFF; else None.
    """

    bands: int
    type: str
    ground: Ground | None


def form_of(header: Header, grid: Grid | None, rules: ReadingRules) -> Form:
    """The form of a file. Bands and types are compared where ``data.bands`` reads them; else images become RGB bytes.

    ``data.value_range`` takes all types of more than 8 bits.
    """
    ground = None if grid is None else (*grid.pixel_size, grid.unit)
    if rules.bands is None:
        return Form(3, "of type uint8", ground)
    depth = "of more than 8 bits" if header.is_deep else "of 8 bits"
    held = f"of type {rules.type_of(header.type)}" if rules.ranges is None else depth
    return Form(header.samples or header.bands, held, ground)


class Forms:
    """Collects the forms of images, and tells which differ from most."""

    def __init__(self) -> None:
        self._places: list[tuple[str, AnyFile]] = []
        self._forms: list[Form] = []

    def add(self, split: str, image: AnyFile, form: Form) -> None:
        self._places.append((split, image))
        self._forms.append(form)

    def defects(self) -> Iterator[Defect]:
        """Name each image that differs from most."""
        bands = [f"{form.bands} band{'s' * (form.bands > 1)}" for form in self._forms]
        yield from self._apart("other_bands", bands, "a band of the same number may hold something else there")
        types = [f"values {form.type}" for form in self._forms]
        yield from self._apart("other_type", types, "store all images with one type", refused=True)
        advice = "the same things have another size in it; resample it"
        yield from self._apart("other_resolution", self._grounds(), advice)

    def _grounds(self) -> list[str | None]:
        """The ground resolution of each image; that of most where it is nearly that."""
        known = Counter(form.ground for form in self._forms if form.ground is not None)
        usual = known.most_common(1)[0][0] if known else None

        def described(ground: Ground) -> str:
            return "pixels of {:.6g} × {:.6g} {}".format(*(usual if usual and _are_near(ground, usual) else ground))

        return [None if form.ground is None else described(form.ground) for form in self._forms]

    def _apart(
        self, kind: Kind, values: Sequence[str | None], advice: str, *, refused: bool = False
    ) -> Iterator[Defect]:
        """Those whose value is not the commonest one."""
        counts = Counter(value for value in values if value is not None)
        for (split, image), value in zip(self._places, values, strict=True):
            usual, most = counts.most_common(1)[0] if counts else (None, 0)
            if value not in (None, usual):
                detail = f"image {image} has {value}, but {most} of {counts.total()} images have {usual}: {advice}"
                yield Defect(kind, split, str(image), detail, refused)


def _are_near(one: Ground, other: Ground) -> bool:
    return one[2] == other[2] and all(abs(a - b) <= NEAR * max(a, b) for a, b in zip(one[:2], other[:2], strict=True))


class FlatBands:
    """Collects bands that have one value at every pixel of an image.

    Args:
        split: of the images.
        numbers: of the bands, as the files count them.
    """

    def __init__(self, split: str, numbers: Sequence[int]) -> None:
        self._split = split
        self._numbers = numbers
        self._images = 0
        self._flat: list[list[tuple[AnyFile, float]]] = [[] for _ in numbers]
        self._values: list[set[float]] = [set() for _ in numbers]

    def add(self, image: AnyFile, values: PixelValues) -> None:
        """Add an image; one without a value says nothing of its bands."""
        if values.are_absent or len(values.bands) != len(self._numbers):
            return
        self._images += 1
        for flat, seen, band in zip(self._flat, self._values, values.bands, strict=True):
            if band.is_constant:
                seen.add(band.low)
                flat.append((image, band.low))

    def defects(self) -> Iterator[Defect]:
        """Name each such band once, with its first image."""
        for number, flat, seen in zip(self._numbers, self._flat, self._values, strict=True):
            if not flat:
                continue
            image, value = flat[0]
            if len(flat) == self._images and len(seen) == 1:
                detail = (
                    f"band {number} is {value:g} at every pixel of data.{self._split} ({self._images} images, such as "
                    f"{image}): it says nothing, and cannot be normalised; leave it out of data.bands"
                )
            else:
                detail = (
                    f"band {number} has one value at every pixel in {len(flat)} of {self._images} images, such as "
                    f"{image} ({value:g}): check that they were exported whole"
                )
            yield Defect("constant_band", self._split, str(image), detail, refused=False)
