"""Examines one sample: reads its image and mask once, and reports their defects and figures."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour
from lightning_seg.data.auditing.lossy import is_lossy
from lightning_seg.data.auditing.unlike import Form, form_of
from lightning_seg.data.auditing.values import PixelValues, count_values
from lightning_seg.data.labels.rasterise import paint, rasterise, region_of
from lightning_seg.data.labels.table import Ids, LabelTable, pack
from lightning_seg.data.listing.defects import Defect, Kind
from lightning_seg.data.reading import (
    USUAL,
    Header,
    ReadingRules,
    StoredMask,
    open_image,
    read_mask,
)
from lightning_seg.data.reading.bands import BandsFile
from lightning_seg.data.reading.grid import grid_of, grid_problem
from lightning_seg.data.reading.storage import exists
from lightning_seg.data.stored import size_problem
from lightning_seg.errors import DataError, LossyMaskError, UnfitImageError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Annotations, Sample

SHOWN = 5
"""How many colours of a mask a message names."""

_Absent = NDArray[np.bool_] | None
"""Where an image holds nothing, (H, W); None: nowhere."""


@dataclass
class Examination:
    """What was found in one sample.

    Attributes:
        split: the split of the sample.
        image: the image file.
        source: of the sample.
        defects: what is wrong with the sample alone.
        size: height and width of the upright image; None where it cannot be read.
        values: how often its pixels have each value.
        form: what the file says of its pixels.
        refused: values of an image that no run takes, to say which settings would let it pass.
        digest: of its decoded pixels; only equal images have equal ones.
        class_pixels: (K,) int64; None where the mask cannot be read.
        ignored: number of pixels that do not count.
        unknown: number of pixels whose value or colour has no meaning.
        labels: number of pixels of each stored value or colour of a mask file.
    """

    split: str
    image: AnyFile
    source: int = 0
    defects: list[Defect] = field(default_factory=list)
    size: tuple[int, int] | None = None
    values: PixelValues | None = None
    form: Form | None = None
    refused: PixelValues | None = None
    digest: bytes | None = None
    class_pixels: NDArray[np.int64] | None = None
    ignored: int = 0
    unknown: int = 0
    labels: dict[int | Colour, int] = field(default_factory=dict)

    def report(self, kind: Kind, path: AnyFile, detail: object, *, refused: bool = True) -> None:
        self.defects.append(Defect(kind, self.split, str(path), str(detail), refused))


def examine(
    sample: Sample,
    table: LabelTable,
    split: str,
    rules: ReadingRules = USUAL,
) -> Examination:
    """Read image and mask of a sample and name everything that is wrong with them.

    A defect that follows from another is left out: a mask that would fit its image without the EXIF orientation is no
    ``size_mismatch``, a JPEG is not ``unreadable``, and a smoothed mask has no ``unknown_colour``.
    """
    found = Examination(split, sample.image, sample.source)
    header, absent = _examine_image(sample, rules, found)
    if isinstance(sample.mask, Annotations):
        _examine_regions(sample, sample.mask, table, header, absent, found)
    elif sample.mask is not None:
        _examine_mask(sample.mask, table, rules, header, absent, found)
    return found


def examine_mask(sample: Sample, table: LabelTable, split: str, rules: ReadingRules = USUAL) -> Examination:
    """Do as :func:`examine`, but do not read the image."""
    found = Examination(split, sample.image, sample.source)
    if sample.mask_file is not None:
        _examine_mask(sample.mask_file, table, rules, None, None, found)
    return found


def _examine_image(sample: Sample, rules: ReadingRules, found: Examination) -> tuple[Header | None, _Absent]:
    """The header of an image that can be read, and where it holds nothing."""
    path, mask = sample.image, sample.mask_file
    if not exists(path):
        detail = f"image {path} does not exist"
        if mask is not None and exists(mask):
            found.report("orphan_mask", mask, detail)
        else:
            found.report("unreadable", path, detail)
        return None, None
    try:
        file = open_image(path, rules)
        header = file.header
        image, absent = file.read() if isinstance(file, BandsFile) else (file.whole(), None)
        grid = grid_of(path, "image") if header.format == "TIFF" else None
    except UnfitImageError as error:
        found.report("unfit", path, error)
        return None, None
    except Exception as error:  # decoders raise what they like on a damaged file
        found.report("unreadable", path, _as_message(error, f"image {path}"))
        return None, None
    found.size = image.shape[:2]
    found.values = count_values(image, absent)
    found.form = form_of(header, grid, rules)
    if found.values.are_absent:
        found.report("all_nodata", path, f"no pixel of image {path} has data: leave it out of the list", refused=False)
    else:
        digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
        digest.update(np.ascontiguousarray(image).data)
        found.digest = digest.digest()[:16]
    if header.orientation != 1:
        found.report(
            "exif_rotation",
            path,
            f"image {path} has orientation {header.orientation} (EXIF or XMP): it is read turned upright; "
            "store it so, for programs that do not turn it",
            refused=False,
        )
    return header, absent


def _examine_mask(
    path: AnyFile,
    table: LabelTable,
    rules: ReadingRules,
    header: Header | None,
    absent: _Absent,
    found: Examination,
) -> None:
    if not exists(path):
        found.report("orphan_image", found.image, f"mask {path} does not exist")
        return
    try:
        stored = read_mask(path, rules)
        if header is not None:
            compare_sizes(path, stored.size, header, found)
            compare_grids(path, header, rules, found)
        if stored.values is None and not table.colours:
            found.report("unknown_colour", path, _colours_without_palette(stored, path))
            return
        ids, foreign = table.look_up(stored, path)
        found.labels = table.labels_in(stored, path)
    except LossyMaskError as error:
        found.report("lossy_mask", path, error)
        return
    except UnfitImageError as error:
        found.report("unfit", path, error)
        return
    except Exception as error:
        found.report("unreadable", path, _as_message(error, f"mask {path}"))
        return
    translucent = 0 if stored.alpha is None else int(np.count_nonzero((stored.alpha > 0) & (stored.alpha < 255)))
    refused = table.unknown == "refuse"
    if foreign and is_lossy(stored, foreign):
        found.report(
            "lossy_mask",
            path,
            f"{path} has {len(foreign)} labels without a meaning, in {sum(foreign.values())} pixels, that blend those "
            "beside them: it was smoothed, scaled or compressed; draw it without anti-aliasing, scale it with nearest "
            "neighbour and save it as PNG",
            refused=refused,
        )
    elif translucent:
        found.report(
            "lossy_mask",
            path,
            f"{path} is partly transparent in {translucent} pixels: it was smoothed; draw it without anti-aliasing",
            refused=bool(foreign) and refused,
        )
    elif foreign and refused:
        colours = isinstance(next(iter(foreign)), tuple)
        found.report("unknown_colour" if colours else "unknown_id", path, table.describe(foreign, path))
    found.unknown = sum(foreign.values())
    _count(ids, table, path, absent, found)


def compare_sizes(path: AnyFile, size: tuple[int, int], header: Header, found: Examination) -> None:
    """Report a mask of another size than its image, or the orientation if that explains it."""
    if size == header.upright:
        return
    detail = size_problem(path, size, found.image, header.upright)
    if size == header.stored:
        _blame_rotation(found, detail)
    else:
        found.report("size_mismatch", path, detail)


def compare_grids(path: AnyFile, header: Header, rules: ReadingRules, found: Examination) -> None:
    """Report a mask that lies elsewhere than its image, if both are GeoTIFFs; runs compare those of bands.

    Raises:
        UnreadableError: if a file is missing or damaged.
    """
    if header.format == "TIFF" and (problem := grid_problem(found.image, path)) is not None:
        found.report("other_grid", path, problem, refused=rules.bands is not None)


def _blame_rotation(found: Examination, detail: str) -> None:
    found.defects = [defect for defect in found.defects if defect.kind != "exif_rotation"]
    found.report("exif_rotation", found.image, f"{detail}; the mask is not turned as the image's EXIF data says")


def _examine_regions(
    sample: Sample,
    regions: Annotations,
    table: LabelTable,
    header: Header | None,
    absent: _Absent,
    found: Examination,
) -> None:
    size = found.size or regions.size
    if size is None:
        return
    if found.size is not None and regions.size not in (None, found.size):
        try:
            rasterise(regions, found.size, table)
        except DataError as error:
            if header is not None and regions.size == header.stored:
                _blame_rotation(found, str(error))
            else:
                found.report("size_mismatch", sample.image, error)
        return
    file = Path(regions.file)
    where = file if file.is_file() else sample.image
    sound = []
    for segment in regions.segments:
        try:
            region = region_of(segment, size, regions.file)
        except Exception as error:  # a user's annotations hold anything
            message = _as_message(error, f"{regions.file}, annotation {segment.annotation}")
            found.report("unreadable", where, f"{message} (image {sample.image})")
            continue
        if table.refuses(segment.category):
            found.report(
                "unknown_id",
                where,
                f"{regions.file}, annotation {segment.annotation} has category {segment.category} in "
                f"{region.pixels} pixels, which its categories do not list (image {sample.image})",
            )
            continue
        sound.append(region)
    _count(paint(sound, regions, size, table), table, sample.image, absent, found)


def _count(ids: Ids, table: LabelTable, path: AnyFile, absent: _Absent, found: Examination) -> None:
    if absent is not None and absent.shape == ids.shape:
        ids[absent] = table.info.ignore_index
    counts = np.bincount(ids[ids != table.info.ignore_index], minlength=table.info.num_classes)
    found.class_pixels = counts.astype(np.int64)
    found.ignored = ids.size - int(counts.sum()) - found.unknown
    spoilt = any(defect.kind not in ("exif_rotation", "size_mismatch") for defect in found.defects)
    if not counts.any() and not spoilt:
        found.report("all_ignored", path, f"no pixel of the mask of {found.image} counts", refused=False)


def _colours_without_palette(stored: StoredMask, path: AnyFile) -> str:
    assert stored.colours is not None
    used, counts = np.unique(pack(stored.colours), return_counts=True)
    order = np.argsort(-counts)
    listed = [f"#{used[index]:06x} in {counts[index]} pixels" for index in order[:SHOWN]]
    more = f" and {len(used) - SHOWN} more" if len(used) > SHOWN else ""
    shape = f'{{CLASS: "#{used[order[0]]:06x}", …}}'
    return (
        f"{path} stores colours, {', '.join(listed)}{more}: say which class each stands for with data.palette, {shape}"
    )


def _as_message(error: Exception, what: str) -> str:
    return str(error) if isinstance(error, DataError) else f"{what} cannot be read ({type(error).__name__}: {error})"
