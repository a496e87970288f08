"""Turns samples as they are stored into Detectron2's dict format."""

from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lightning_seg.data.labels.table import Ids, LabelTable
from lightning_seg.data.loading.cache import SampleCache, share_caches
from lightning_seg.data.loading.records import Records
from lightning_seg.data.loading.sampler import Draw
from lightning_seg.data.reading import USUAL, ReadingRules, read_image
from lightning_seg.data.reading.bands import MOST_FOR_OPENCV
from lightning_seg.data.stored import read_coming, read_whole
from lightning_seg.data.transforms import (
    Placements,
    RandomScaleCrop,
    Transform,
    apply,
    leading_crop,
    reseed,
)
from lightning_seg.errors import ConfigError, DataError, UnreadableError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Item, Sample

_MOST_IN_A_ROW = 16
"""As many unreadable samples in a row are no accident."""


class SegmentationDataset(Dataset[Item]):
    """Decodes, checks and augments samples.

    An item is a dict as Detectron2's mappers make it, except that its channels are always in the order RGB:

    * ``image``: (C, h, w), after the transforms: uint8; of ``data.bands`` also uint16, int16 or float32
    * ``sem_seg``: (h, w) uint8 or int32 class ids and the ignore index, after the transforms
    * ``height``, ``width``: of the image as it is stored
    * ``file_name``, ``sem_seg_file_name``, ``name``
    * ``position``: the index of the sample, in evaluation and prediction

    and, with ``keep_truth``, ``truth``: (height, width), the mask as it is stored. Without masks (prediction) the keys
    of the mask are missing. ``placement`` tells where ``image`` shows the stored one, if a transform has moved it.
    ``unreadable`` lists messages of samples that this one stands in for. What ``open_image`` opens is ``image`` itself.

    Args:
        samples: what to read.
        tables: what the stored values, colours or categories mean, by the source of a sample.
        pipeline: the transforms; reseeded before every sample.
        seed: of the augmentation, with the epoch and the position that the sampler gives.
        keep_truth: add the mask at its stored size, for evaluation.
        reduced_decoding: decode a JPEG at ½, ¼ or ⅛ where the pipeline scales it to that or less.
        skip_unreadable: put the next sample in the place of one that cannot be read, with the same random draw.
        placements: of a pipeline of evaluation.
        rules: what may be read.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tables: Sequence[LabelTable],
        pipeline: A.Compose,
        *,
        seed: int,
        keep_truth: bool,
        reduced_decoding: bool = False,
        skip_unreadable: bool = False,
        placements: Placements | None = None,
        rules: ReadingRules = USUAL,
    ) -> None:
        self.samples = Records(samples)
        self.tables = list(tables)
        self.info = tables[0].info
        self.pipeline = pipeline
        self.seed = seed
        self.keep_truth = keep_truth
        self.reduced_decoding = reduced_decoding
        self.skip_unreadable = skip_unreadable
        self.placements = placements
        self.rules = rules
        self.cache: SampleCache | None = None
        self.open_image: Callable[[AnyFile], Any] | None = None
        """Opens images to be read by windows, and returns None of the others; of ``predict``, without transforms."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Draw | int) -> Item:
        """Read one sample, in training by its :class:`Draw`, in evaluation by its index.

        Raises:
            DataError: if a file cannot be read, sizes differ, or the mask has values that are no class.
        """
        index, epoch, position = key if isinstance(key, Draw) else (key, 0, key)
        unreadable: list[str] = []
        while True:
            try:
                item = self._item(index, epoch, position)
            except UnreadableError as error:
                if not self.skip_unreadable:
                    raise
                unreadable.append(str(error))
            else:
                return {**item, "unreadable": unreadable} if unreadable else item
            if len(unreadable) == min(_MOST_IN_A_ROW, len(self)):
                raise DataError(
                    f"{len(unreadable)} samples in a row cannot be read, the first and the last of them: "
                    f"{unreadable[0]}; {unreadable[-1]}"
                )
            index = (index + 1) % len(self)

    def _item(self, index: int, epoch: int, position: int) -> Item:
        sample = self.samples[index]
        if self.open_image is not None and (opened := self.open_image(sample.image)) is not None:
            return _windowed_item(sample, opened, position)
        reseed(self.pipeline, self.seed, epoch, position)
        image, mask, size = self._read(index, sample)
        item = transformed(image, mask, size, sample.image, self.pipeline, self.placements)
        item["name"], item["file_name"] = sample.name, str(sample.image)
        if mask is not None:
            item["sem_seg_file_name"] = str(sample.mask)
            if self.keep_truth:
                item["truth"] = torch.from_numpy(mask)
        if mask is None or self.keep_truth:
            item["position"] = position
        return item

    def holds(self, item: Item, position: int) -> bool:
        """Whether an item is the sample at a position."""
        return 0 <= position < len(self) and str(self.samples[position].image) == item.get("file_name")

    def stored_image(self, index: int) -> NDArray[Any]:
        """The image of a sample before the transforms, (H, W, C), at its stored size.

        Raises:
            DataError: if it cannot be read.
        """
        kept = None if self.cache is None else self.cache.get(index)
        return read_image(self.samples[index].image, self.rules) if kept is None else kept[0]

    def _read(self, index: int, sample: Sample) -> tuple[NDArray[Any], Ids | None, tuple[int, int]]:
        """Read image, class ids and stored size; perhaps only the part of the image that the coming draw uses."""
        if sample.mask is None:
            image = read_image(sample.image, self.rules)
            return image, None, (image.shape[0], image.shape[1])
        if self.cache is not None and (kept := self.cache.get(index)) is not None:
            return *kept, kept[1].shape[:2]
        if self.cache is None and leading_crop(self.pipeline) is not None:
            table = self.tables[sample.source]
            return read_coming(sample, table, self.pipeline, self.rules, reduced_decoding=self.reduced_decoding)
        image, mask = read_whole(sample, self.tables[sample.source], self.rules)
        if self.cache is not None:
            self.cache.put(index, image, mask)
        return image, mask, (image.shape[0], image.shape[1])


def transformed(
    image: NDArray[Any],
    mask: Ids | None,
    size: tuple[int, int],
    source: AnyFile,
    pipeline: A.Compose,
    placements: Placements | None,
) -> Item:
    """What a network gets of an image and its mask: ``image``, ``sem_seg``, ``height``, ``width`` and ``placement``.

    Args:
        image: (h, w, C), RGB or bands.
        mask: (H, W) class ids.
        size: height and width of the image as it is stored.
        source: of the image, for errors.
        pipeline: the transforms, seeded.
        placements: of a pipeline of evaluation.

    Raises:
        DataError: if a transform fails, or does what no label map finds back from.
    """
    placement = None if placements is None else placements.of(size, source)
    setting = "data.train_transforms" if placements is None else "data.eval_transforms"
    arrays = {"image": image} if mask is None else {"image": image, "mask": mask}
    augmented = apply(pipeline, setting, source, **arrays)
    item: Item = {"image": _image_tensor(augmented["image"], image.dtype), "height": size[0], "width": size[1]}
    if placement is not None:
        item["placement"] = placement
    if mask is not None:
        item["sem_seg"] = torch.from_numpy(np.ascontiguousarray(augmented["mask"]))
    return item


def _windowed_item(sample: Sample, image: Any, position: int) -> Item:
    _, height, width = image.shape
    return {
        "name": sample.name, "file_name": str(sample.image), "height": height, "width": width,
        "image": image, "position": position,
    }  # fmt: skip


def _image_tensor(image: NDArray[Any], dtype: np.dtype[Any]) -> Tensor:
    """Turn an (H, W, C) array into a contiguous (C, H, W) tensor.

    Raises:
        DataError: if a transform has changed the type, as ``Normalize`` does: the model normalises by itself.
    """
    if image.dtype != dtype:
        raise DataError(
            f"the transforms return a {image.dtype} image, but {dtype} is expected: "
            "leave Normalize and ToFloat out, the model subtracts MODEL.PIXEL_MEAN itself"
        )
    planes = np.empty((image.shape[2], *image.shape[:2]), dtype)
    if len(planes) <= MOST_FOR_OPENCV:
        cv2.split(image, list(planes))  # a tenth of the time of NumPy's transpose and copy
    else:
        planes[...] = image.transpose(2, 0, 1)
    return torch.from_numpy(planes)


def cache_samples(datasets: Sequence[SegmentationDataset], rules: ReadingRules) -> None:
    """Give each data set without a cache a cache that all training processes of a machine share.

    Raises:
        ConfigError: if they will not fit into memory.
        UnreadableError: if an image cannot be read.
    """
    fresh = [dataset for dataset in datasets if dataset.cache is None]
    id_bytes = [dataset.tables[0].dtype.itemsize for dataset in fresh]
    skips = [dataset.skip_unreadable for dataset in fresh]
    caches = share_caches([dataset.samples for dataset in fresh], id_bytes, skips, rules)
    for dataset, kept in zip(fresh, caches, strict=True):
        dataset.cache = kept


def refuse_reduced_decoding(train_transforms: Sequence[Transform], *, cached: bool) -> None:
    """Refuse ``data.reduced_decoding`` if it would do nothing.

    Args:
        train_transforms: those of the training.
        cached: whether samples are kept decoded.

    Raises:
        ConfigError: if samples are kept as they are stored, or the scale is not known before decoding.
    """
    if not isinstance(next(iter(train_transforms), None), RandomScaleCrop):
        raise ConfigError(
            "data.reduced_decoding must know the scale before it decodes: put lightning_seg.data.RandomScaleCrop "
            "first in data.train_transforms, or leave data.reduced_decoding out"
        )
    if cached:
        raise ConfigError(
            "data.cache: ram keeps images as they are stored, so data.reduced_decoding would do nothing: choose one"
        )
