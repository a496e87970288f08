"""Holds the data of one experiment: readers, transforms and loaders for every stage."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pytorch_lightning.trainer.states import TrainerFn

from lightning_seg.data.auditing.quick import refuse_visible_defects
from lightning_seg.data.auditing.seen import announce_labels
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.dataset import SegmentationDataset, cache_samples, refuse_reduced_decoding
from lightning_seg.data.evaluation import describe_evaluation
from lightning_seg.data.labels.label_map import Unreadable
from lightning_seg.data.labels.table import LabelTable, Unknown
from lightning_seg.data.listing.labelling import find_labelling
from lightning_seg.data.listing.once import Listings
from lightning_seg.data.loading.resumable import ResumableDataModule
from lightning_seg.data.loading.sampler import choose_locality
from lightning_seg.data.readers import Reader
from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.several import readers_of, settings_of
from lightning_seg.data.reading import MAX_PIXELS, ReadingRules
from lightning_seg.data.surveying.class_pixels import ClassPixels, count_together
from lightning_seg.data.surveying.sizes import refuse_misfits
from lightning_seg.data.surveying.values import pixels_of
from lightning_seg.data.transforms import Transform
from lightning_seg.data.transforms.splits import SplitTransforms, transforms_of
from lightning_seg.errors import ConfigError
from lightning_seg.imports import import_user_code
from lightning_seg.structures import Sample

_PARTS = {
    TrainerFn.FITTING: ["train", "val"],
    TrainerFn.VALIDATING: ["val"],
    TrainerFn.TESTING: ["test"],
    TrainerFn.PREDICTING: ["predict"],
}
"""The splits that each command reads."""


class SegmentationDataModule(ResumableDataModule):
    """Reads, checks, augments and batches samples for fit, validate, test and predict.

    Args:
        classes: names in id order; null: the classes that the training reader's source names.
        train: reader of the training samples, or several.
        val: reader of the samples that every epoch is validated on, or several.
        test: reader of the samples for ``test``, or several.
        predict: an image, folder, glob, list file (``.txt``) or video for ``predict``, or several; or a reader.
        root: folder that relative paths of the readers start from; null: the working directory.
        fold: fold, from 0, of every ``Split`` with ``folds``, in place of its own ``fold``.
        ignore_index: mask value of pixels that do not count; null: 255, but refused where a class may be stored so.
        imports: the user's own files (``path/to/data.py``) or modules: they may register data sets with Detectron2,
            and hold classes for a ``class_path``, ``data.Class``.
        label_map: what stored values, or the source's names, stand for, ``{7: road, truck: vehicle, 0: ignore}``;
            ``"1-8": person`` maps all values from 1 to 8, ``rest: background`` every value and name that nothing else
            gives a meaning. Where the source names no classes (Folder, Manifest) and values are mapped, only those have
            a meaning; else a mask holds ids of ``classes``.
        palette: colours, ``{name: "#rrggbb"}`` or ``[r, g, b]``, of classes and of ``ignore``, in masks and pictures.
        unknown: ``refuse``: values and colours without a meaning are errors, and classes that the source names and
            ``classes`` does not; ``ignore``: they are ignored pixels.
        unreadable: ``refuse``: a training sample that cannot be opened or decoded is an error; ``skip``: the next one
            takes its place, a warning names it once, and ``data/skipped`` counts them. Evaluation always refuses.
            ``skip`` also leaves out annotations that have no region, in every split; a warning counts them.
        sampler: ``shuffle``: every training sample once an epoch; ``rare_class``: DAFormer's: a class by its rarity,
            then a sample that shows it, as often as there are samples.
        locality: ``64``: ``shuffle`` goes through blocks of 64 neighbours of the reader's order, so that a slow disk is
            read mostly in sequence; blocks, and the samples in each, are shuffled. Null: all are shuffled.
        train_transforms: albumentations for training; ``fill_mask`` is set to the ignore index in all of them.
        eval_transforms: albumentations in evaluation and prediction. Figures are computed at the stored size, so that
            what moves pixels must be a resize, padding or a flip, and the same each time.
        reduced_decoding: decode a training JPEG at ½ (¼, ⅛) of its size where ``RandomScaleCrop`` scales it to that or
            less: half the time, for pixels that differ by 0.3 grey levels on average.
        value_range: values, ``[0, 4095]``, that become 0 and 255 in images of more than 8 bits, or such a pair for each
            band. Null: these images are refused, unless ``bands`` takes them as they are stored.
        bands: numbers of the bands that images have, ``[4, 3, 2, 8]``, counted from 1 as GDAL does. Values stay as they
            are stored, with 8, 16 or 32 bits or float. Null: images are RGB of 8 bits.
        display_bands: three of ``bands``, or one, that pictures show; null: the first three.
        max_pixels: height × width of the largest image or mask.
        cache: ``ram``: ``fit`` keeps decoded samples in memory that all processes of a machine share; refused where
            they do not fit. Null: decode at every use.
        batch_size: training samples per process and step.
        eval_batch_size: samples per process and step elsewhere; those of one size share a pass of the network.
        num_workers: loading processes per training process; null: one for each CPU of its share, at most 16.
        seed: of order and augmentation; follows ``seed_everything`` on the command line.
    """

    def __init__(
        self,
        classes: list[str] | None = None,
        train: Reader | list[Reader] | None = None,
        val: Reader | list[Reader] | None = None,
        test: Reader | list[Reader] | None = None,
        predict: list[str] | str | Reader | None = None,
        root: str | None = None,
        fold: int | None = None,
        ignore_index: int | None = None,
        imports: list[str] | None = None,
        label_map: dict[int | str, str] | None = None,
        palette: dict[str, str | list[int]] | None = None,
        unknown: Unknown = "refuse",
        unreadable: Unreadable = "refuse",
        sampler: Literal["shuffle", "rare_class"] = "shuffle",
        locality: int | None = None,
        train_transforms: list[Transform] | None = None,
        eval_transforms: list[Transform] | None = None,
        reduced_decoding: bool = False,
        value_range: list[float] | list[list[float]] | None = None,
        bands: list[int] | None = None,
        display_bands: list[int] | None = None,
        max_pixels: int = MAX_PIXELS,
        cache: Literal["ram"] | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 1,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise ConfigError(f"data.{name} is {size}, but must be at least 1")
        self.imports = imports or []
        import_user_code(self.imports, "data.imports")
        self.readers = readers_of({"train": train, "val": val, "test": test}, fold)
        self.root = None if root is None else resolve(root, None)
        self.rules = ReadingRules.of_settings(value_range, max_pixels, bands, display_bands)
        self.labelling = find_labelling(
            self.readers, self.root, classes, label_map, palette, ignore_index, unknown, unreadable, self.rules.channels
        )
        self.info = self.labelling.info
        self.listings = Listings(self.readers, predict, self.root, self.labelling, self.rules)
        self.skip_unreadable = unreadable == "skip"
        self.sampler = sampler
        self.locality = choose_locality(locality, sampler)
        self.train_transforms = train_transforms or []
        self.eval_transforms = eval_transforms or []
        if reduced_decoding:
            refuse_reduced_decoding(self.train_transforms, cached=cache is not None)
        self.reduced_decoding = reduced_decoding
        self.cache = cache
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._seen: dict[str, SplitStatistics] = {}

    def describe_evaluation(self) -> dict[str, Any]:
        """How an image is read and transformed in evaluation, and shown, in plain values for a checkpoint."""
        return describe_evaluation(self.info, self.eval_transforms, self.rules, self.seed, self.imports)

    @property
    def class_names(self) -> list[str]:
        """What the model is linked to."""
        return list(self.info.names)

    @property
    def ignore_index(self) -> int:
        """What the model is linked to."""
        return self.info.ignore_index

    def prepare_data(self) -> None:
        """Write what readers make and, before fit, stop at what a quick look finds wrong.

        Lightning calls it in one process a machine, and before the others read anything.

        Raises:
            DataError: if the root is not there, or with the first defects.
        """
        self.listings.prepare()
        command = None if self.trainer is None else self.trainer.state.fn
        if command == TrainerFn.FITTING:
            self.take_quick_look()
        elif command is not None:
            self._refuse_misfits(_PARTS[command])

    def take_quick_look(self) -> None:
        """Stop at what would stop a training later, or make its figures false, as far as it shows in a few seconds.

        Raises:
            DataError: with the first defects, or with the images that transforms fail on.
        """
        parts = [part for part in ("train", "val") if self.readers[part]]
        self._seen = refuse_visible_defects(
            {part: self.listings.split(part) for part in parts},
            skip_unreadable=["train"] if self.skip_unreadable else [],
        )
        self._refuse_misfits(parts)

    def _refuse_misfits(self, parts: Sequence[str]) -> None:
        """Try the transforms of splits on the sizes of their images."""
        self._describe_bands(parts)
        for part in parts:
            transforms = self._transforms(part)
            if transforms.pipeline.transforms and self.listings.has(part):
                if self.rules.bands is not None and part != "predict":  # says more of them than a misfit
                    self.try_transforms(part)
                refuse_misfits(self.listings.samples(part), transforms, self.rules)

    def setup(self, stage: str) -> None:
        """List the samples of a stage.

        Raises:
            ConfigError: if the stage has no reader, or a transform does what a transform must not.
            DataError: from the readers, or if the training samples fill no batch.
        """
        parts = _PARTS[TrainerFn(stage)]
        self._describe_bands(parts)
        for part in parts:
            if part not in self.datasets and (self.listings.has(part) or part != "val" or stage != "fit"):
                self.datasets[part] = self._make_dataset(part, stage)
        self.listings.release()
        if stage == "fit" and self.cache == "ram":
            cache_samples([self.datasets[part] for part in parts if part in self.datasets], self.rules)
        if "train" in parts and self.sampler == "rare_class" and self.class_pixels is None:
            train = self.datasets["train"]
            pixels = ClassPixels(train.samples, train.tables, skip_unreadable=train.skip_unreadable, rules=self.rules)
            self.class_pixels = count_together(pixels, *self._processes(), self._workers())

    def _describe_bands(self, parts: Sequence[str]) -> None:
        """Find what bands are read as, and what they show where a file has no data: the mean that the model subtracts.

        From then on, images of another type are refused.
        """
        if self.rules.bands is None:
            return
        if self.rules.dtype is None:
            self.info = replace(self.info, dtype=self.listings.type_of_images(parts))
        model = None if self.trainer is None else self.trainer.lightning_module
        mean: tuple[float, ...] | None = getattr(model, "image_mean", None)
        fill = mean if mean is not None and len(mean) == self.rules.channels else self.rules.fill
        self.rules = replace(self.rules, dtype=self.info.dtype, fill=fill)

    def _make_dataset(self, part: str, stage: str) -> SegmentationDataset:
        if part == "predict":
            samples, tables = self.listings.images_to_predict(), [LabelTable(self.info, {}, {})]
        else:
            samples, tables = self._take(part, TrainerFn(stage).value)
        transforms = self._transforms(part)
        transforms.check(tables[0].dtype, pixels_of(samples, self.rules))
        return SegmentationDataset(
            samples,
            tables,
            transforms.pipeline,
            seed=self.seed,
            keep_truth=part in ("val", "test"),
            reduced_decoding=self.reduced_decoding and part == "train",
            skip_unreadable=self.skip_unreadable and part == "train",
            placements=transforms.placements,
            rules=self.rules,
        )

    def _take(self, part: str, command: str) -> tuple[list[Sample], list[LabelTable]]:
        """List a split, and say how its labels are read where that is not plain."""
        listing = self.listings.take(part, command)
        own = any(reader.own_label_map is not None for reader in self.readers[part])
        if own or self.labelling.label_map or self.labelling.unknown != "refuse":
            told = [table for dataset in self.datasets.values() for table in dataset.tables]
            announce_labels(settings_of(part, listing.tables), listing.tables, told, self._seen.get(part))
        return listing.samples, listing.tables

    def try_transforms(self, part: str) -> None:
        """Try the transforms of ``train`` or ``val`` out.

        Raises:
            ConfigError: if one does what a transform must not.
        """
        samples: list[Sample] = []
        if self.rules.bands is not None and self.listings.has(part):  # else nothing need be read for it
            self.listings.prepare()
            self._describe_bands([part])
            samples = self.listings.samples(part)
        self._transforms(part).check(LabelTable(self.info, {}, {}).dtype, pixels_of(samples, self.rules))

    def count_samples(self, part: str) -> int | None:
        """How many samples ``train`` or ``val`` has, listed once and kept for what comes after.

        Args:
            part: ``train`` or ``val``.

        Returns:
            None without a reader.

        Raises:
            DataError: from the reader.
        """
        return len(self.listings.complete(part).samples) if self.listings.has(part) else None

    def _transforms(self, part: str) -> SplitTransforms:
        return transforms_of(part, self.train_transforms, self.eval_transforms, self.info.ignore_index)
