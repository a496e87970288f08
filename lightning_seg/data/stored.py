"""Reads image and labels of a sample as they are stored, or only the part of them that a training shows."""

from dataclasses import replace
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.labels.rasterise import rasterise
from lightning_seg.data.labels.table import Ids, LabelTable
from lightning_seg.data.reading import USUAL, ImageFile, ReadingRules, read_image, read_mask
from lightning_seg.data.reading.bands import Bands, BandsFile
from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.data.reading.grid import refuse_other_grid
from lightning_seg.data.reading.masks import read_mask_part
from lightning_seg.data.reading.storage import held
from lightning_seg.data.transforms import coming_pixels, leading_crop
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Annotations, Sample

Size = tuple[int, int]


def read_whole(sample: Sample, table: LabelTable, rules: ReadingRules = USUAL) -> tuple[NDArray[Any], Ids]:
    """The image (H, W, C) and the label map (H, W) of a sample, in which pixels without data are ignored.

    Raises:
        DataError: if a file cannot be read, or they do not fit each other.
    """
    if rules.bands is None:
        image = read_image(sample.image, rules)
        return image, read_labels(sample, (image.shape[0], image.shape[1]), table, rules)
    sample = _in_memory(sample)
    file = BandsFile(sample.image, rules)
    bands = file.read()
    mask = read_labels(sample, file.header.upright, table, rules)
    return bands.pixels, _without_absent(mask, bands, table)


def read_coming(
    sample: Sample,
    table: LabelTable,
    pipeline: A.Compose,
    rules: ReadingRules = USUAL,
    *,
    reduced_decoding: bool = False,
) -> tuple[NDArray[Any], Ids, Size]:
    """Do as :func:`read_whole`, but read only what a seeded pipeline with a leading crop will show, where it can.

    Args:
        sample: of a training.
        table: what its source stores.
        pipeline: of the training.
        rules: what may be read.
        reduced_decoding: decode a JPEG at a fraction of its size where the pipeline scales it to that or less.

    Returns:
        image, label map, and height and width of the stored image. Image and label map have that size, but pixels that
        are not shown may hold anything; an image may also have a fraction of it.

    Raises:
        DataError: as :func:`read_whole`, as far as it shows in what is read.
    """
    if rules.bands is not None:
        return _bands_coming(sample, table, pipeline, rules)
    file = ImageFile(sample.image, rules)
    size = file.header.upright
    mask = read_labels(sample, size, table, rules)
    return _rgb_coming(file, mask, pipeline, reduced_decoding), mask, size


def _rgb_coming(file: ImageFile, mask: Ids, pipeline: A.Compose, reduced_decoding: bool) -> NDArray[np.uint8]:
    coming = coming_pixels(pipeline, mask) if file.header.format == "JPEG" else None
    if coming is None:
        return file.whole()
    if reduced_decoding and (reductions := [by for by in file.reductions if coming.scale * by <= 1]):
        return file.reduced(max(reductions))
    return file.part(coming.rows, coming.columns)


def _bands_coming(
    sample: Sample, table: LabelTable, pipeline: A.Compose, rules: ReadingRules
) -> tuple[NDArray[Any], Ids, Size]:
    sample = _in_memory(sample)
    file = BandsFile(sample.image, rules)
    size = file.header.upright
    first, mask = leading_crop(pipeline), None
    if not file.has_parts or (first is not None and first.max_fraction < 1):  # which depends on the labels
        mask = read_labels(sample, size, table, rules)
    coming = coming_pixels(pipeline, np.broadcast_to(np.uint8(0), size) if mask is None else mask)
    part = None if coming is None or not file.has_parts else (coming.rows, coming.columns)
    if mask is None:
        mask = read_labels(sample, size, table, rules, part)
    bands = file.read(part)
    if part is None:
        return bands.pixels, _without_absent(mask, bands, table), size
    image = np.empty((*size, bands.pixels.shape[2]), bands.pixels.dtype)  # memory is taken where it is written
    image[part] = bands.pixels
    mask[part] = _without_absent(mask[part], bands, table)
    return image, mask, size


def _in_memory(sample: Sample) -> Sample:
    """The sample with the bytes of members of archives, which are opened for headers, places and pixels."""
    mask = sample.mask if isinstance(sample.mask, Annotations | ClassMasks | None) else held(sample.mask, "mask")
    return replace(sample, image=held(sample.image, "image"), mask=mask)


def _without_absent(mask: Ids, bands: Bands, table: LabelTable) -> Ids:
    if bands.absent is not None:
        mask[bands.absent] = table.info.ignore_index
    return mask


def read_labels(
    sample: Sample,
    size: Size,
    table: LabelTable,
    rules: ReadingRules = USUAL,
    part: tuple[slice, slice] | None = None,
) -> Ids:
    """Read the label map of a sample's mask, (H, W).

    Args:
        sample: one with a mask.
        size: height and width of its image.
        table: what its source stores.
        rules: what may be read.
        part: rows and columns that are needed; others may hold anything. None: all.

    Raises:
        DataError: if the mask cannot be read, has another size, or holds what the table does not know.
    """
    assert sample.mask is not None
    if isinstance(sample.mask, Annotations):
        return rasterise(sample.mask, size, table)
    if rules.bands is not None:
        refuse_other_grid(sample.image, sample.mask)
    if isinstance(sample.mask, ClassMasks):  # which are united whole
        part = None
    if part is not None and (stored := read_mask_part(sample.mask, rules, size, *part)) is not None:
        ids = np.empty(size, table.dtype)
        ids[part] = table.decode(stored, sample.mask)
        return ids
    stored = read_mask(sample.mask, rules)
    if stored.size != size:
        raise DataError(size_problem(sample.mask, stored.size, sample.image, size))
    return table.decode(stored, sample.mask)


def size_problem(mask: AnyFile, mask_size: Size, image: AnyFile, image_size: Size) -> str:
    """What to say of a mask of another size (height, width) than its image."""
    return (
        f"mask {mask} is {mask_size[1]}×{mask_size[0]} pixels, but its image {image} is "
        f"{image_size[1]}×{image_size[0]}: they must be of one size"
    )
