"""The data of one experiment: readers, transforms and loaders for every stage.

Long, because Lightning asks one class for all loaders, and a third of it says what its settings mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import albumentations as A
import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from lightning_seg.data.auditing.quick import EVERY_DEFECT, refuse_visible_defects
from lightning_seg.data.auditing.seen import show_shares
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.labels.label_map import IGNORE, Labelling, Unreadable, split_keys
from lightning_seg.data.labels.table import LabelTable, Unknown
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.listing.splits import Listing, list_split
from lightning_seg.data.loading.cache import share_caches
from lightning_seg.data.loading.limits import usable_cpus
from lightning_seg.data.loading.loader import SegmentationLoader, build_loader
from lightning_seg.data.loading.position import EpochPosition, digest_of_names
from lightning_seg.data.loading.ranks import gather
from lightning_seg.data.loading.sampler import EvaluationSampler, OverfitSampler, RareClassSampler, TrainSampler
from lightning_seg.data.readers import Reader
from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.reading import MAX_PIXELS, ReadingRules
from lightning_seg.data.surveying.class_pixels import ClassPixels, count_class_pixels
from lightning_seg.data.surveying.sizes import refuse_misfits
from lightning_seg.data.transforms import Placements, RandomScaleCrop, Transform, build_pipeline, check_transforms
from lightning_seg.errors import ConfigError, DataError, IgnoreIsClassError
from lightning_seg.imports import import_user_code
from lightning_seg.structures import Colour, DatasetInfo, Sample, SourceLabels, default_palette, parse_colour

MAX_DEFAULT_WORKERS = 16
IGNORE_INDEX = 255
"""Where ``data.ignore_index`` is not set."""

_PARTS = {
    TrainerFn.FITTING: ["train", "val"],
    TrainerFn.VALIDATING: ["val"],
    TrainerFn.TESTING: ["test"],
    TrainerFn.PREDICTING: ["predict"],
}
"""What each command reads."""


class SegmentationDataModule(pl.LightningDataModule):
    """Reads, checks, augments and batches samples for fit, validate, test and predict.

    Args:
        classes: names in id order; null: those of the training reader, where its source names any.
        train: reader of the training samples.
        val: reader of the samples that every epoch is validated on.
        test: reader of the samples for ``test``.
        predict: an image, a folder of images or a glob pattern for ``predict``; masks among them are left out.
        root: folder that relative paths of the readers start from; the working directory if null.
        ignore_index: mask value of pixels that count neither in the loss nor in the metric; null: 255, but refused
            where a class may be stored so.
        imports: the user's own files (``path/to/data.py``, from the working directory or from the config's folder) or
            modules: they may register data sets with Detectron2, and hold classes for a ``class_path``, ``data.Class``.
        label_map: what stored values, or the source's names, stand for, ``{7: road, truck: vehicle, 0: ignore}``;
            ``"1-8": person`` maps all values from 1 to 8, ``rest: background`` every value and name that nothing else
            gives a meaning. Where the source names no classes (Folder, Manifest) and values are mapped, only those have
            a meaning; else a mask holds ids of ``classes``.
        palette: colours, ``{name: "#rrggbb"}`` or ``[r, g, b]``, of classes and of ``ignore``: decode colour masks, and
            show classes in pictures; others get one chosen for them.
        unknown: ``refuse``: a stored value or colour without a meaning is an error, and so is a class that the source
            names and ``classes`` does not; ``ignore``: they are read as ignored pixels.
        unreadable: ``refuse``: a training sample that cannot be opened or decoded is an error; ``skip``: the next one
            of the data set takes its place, a warning names it once, and ``data/skipped`` counts them. Evaluation
            always refuses. An annotation that has no region is left out by ``skip`` in every split; a warning counts
            them.
        sampler: ``shuffle``: every training sample once an epoch; ``rare_class``: DAFormer's rare-class sampling, which
            draws a class by its rarity, then a sample that shows it, as often as there are samples.
        train_transforms: albumentations for training; ``fill_mask`` is set to the ignore index in all of them.
        eval_transforms: albumentations of images (and of masks, for the loss) in evaluation and prediction, such
            as a resize; the metric is always computed at the stored size, so that what moves pixels must be a resize,
            padding or a flip, and the same each time.
        reduced_decoding: decode a training JPEG at ½ (¼, ⅛) of its size where ``RandomScaleCrop`` scales it to that or
            less: about half the time, for pixels that differ by 0.3 grey levels on average. Masks stay whole.
        value_range: lowest and highest value, ``[0, 4095]``, that become 0 and 255 in images of more than 8 bits, or
            one such pair for each of three bands; images of 8 bits stay as they are. Null: the former are refused.
        max_pixels: height × width of the largest image or mask that is opened.
        cache: ``ram``: in ``fit``, keep each decoded sample in memory that all processes of a machine share, so that it
            is decoded once; its size is announced, and refused where it does not fit. Null: decode at every use.
        batch_size: training samples per process and step.
        eval_batch_size: samples per process and step elsewhere; those of one size go through the network together,
            which changes nothing but rounding.
        num_workers: loading processes per training process; null: one for each CPU that falls to it (of the machine,
            its container or Slurm job, divided by the training processes there), at most 8.
        seed: of order and augmentation; follows ``seed_everything`` on the command line.
    """

    def __init__(
        self,
        classes: list[str] | None = None,
        train: Reader | None = None,
        val: Reader | None = None,
        test: Reader | None = None,
        predict: str | None = None,
        root: str | None = None,
        ignore_index: int | None = None,
        imports: list[str] | None = None,
        label_map: dict[int | str, str] | None = None,
        palette: dict[str, str | list[int]] | None = None,
        unknown: Unknown = "refuse",
        unreadable: Unreadable = "refuse",
        sampler: Literal["shuffle", "rare_class"] = "shuffle",
        train_transforms: list[Transform] | None = None,
        eval_transforms: list[Transform] | None = None,
        reduced_decoding: bool = False,
        value_range: list[float] | list[list[float]] | None = None,
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
        import_user_code(imports or [], "data.imports")
        self.readers = {"train": train, "val": val, "test": test}
        self.predict_from = predict
        self.root = None if root is None else resolve(root, None)
        colours = _parse_palette(palette or {})
        names, usual = (classes, {}) if classes else self._classes_of_source(label_map or {})
        ignored = IGNORE_INDEX if ignore_index is None else ignore_index
        self.info = _dataset_info(names, ignored, {**usual, **colours}, known={*(label_map or {}), IGNORE})
        self.labelling = Labelling(
            self.info, label_map or {}, colours, unknown, unreadable=unreadable, ignore_assumed=ignore_index is None
        )
        self.rules = ReadingRules.of_settings(value_range, max_pixels)
        self.skip_unreadable = unreadable == "skip"
        self.sampler = sampler
        self.train_transforms = train_transforms or []
        self.eval_transforms = eval_transforms or []
        if reduced_decoding and not isinstance(next(iter(self.train_transforms), None), RandomScaleCrop):
            raise ConfigError(
                "data.reduced_decoding must know the scale before it decodes: put lightning_seg.data.RandomScaleCrop "
                "first in data.train_transforms, or leave data.reduced_decoding out"
            )
        if reduced_decoding and cache:
            raise ConfigError(
                "data.cache: ram keeps images as they are stored, so data.reduced_decoding would do nothing: choose one"
            )
        self.reduced_decoding = reduced_decoding
        self.cache = cache
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.datasets: dict[str, SegmentationDataset] = {}
        self._listings: dict[str, Listing] = {}
        self._seen: dict[str, SplitStatistics] = {}
        self._predicted: list[Sample] | None = None
        self.position = EpochPosition()
        self._names: str | None = None
        self.failures: list[str] = []
        """What this process could not predict, and why."""
        self.class_pixels: NDArray[np.int64] | None = None

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
        for reader in self.readers.values():
            if reader is not None:
                reader.prepare(self.root)
        self.refuse_missing_root()  # a reader may have made it
        command = None if self.trainer is None else self.trainer.state.fn
        if command == TrainerFn.FITTING:
            self.take_quick_look()
        elif command is not None:
            self._refuse_misfits(_PARTS[command])

    def refuse_missing_root(self) -> None:
        """Raise the DataError for a root that is not there."""
        if self.root is not None and not self.root.is_dir():
            raise DataError(f"data.root {self.root} does not exist: name the folder that the readers' paths are below")

    def take_quick_look(self) -> None:
        """Stop at what would stop a training later, or make its figures false, as far as it shows in a few seconds.

        Raises:
            DataError: with the first defects, or with the images that transforms fail on.
        """
        parts = [part for part in ("train", "val") if self.readers[part] is not None]
        self._seen = refuse_visible_defects(
            {part: self._list(part) for part in parts},
            skip_unreadable=["train"] if self.skip_unreadable else [],
        )
        self._refuse_misfits(parts)

    def _refuse_misfits(self, parts: Sequence[str]) -> None:
        """Try the transforms of splits on the sizes of their images."""
        for part in parts:
            pipeline, placements, setting = self._pipeline(part)
            if pipeline.transforms and self.readers.get(part, self.predict_from) is not None:
                samples = self._images_to_predict() if part == "predict" else self._list(part).samples
                refuse_misfits(samples, pipeline, placements, setting)

    def setup(self, stage: str) -> None:
        """List the samples of a stage.

        Raises:
            ConfigError: if the stage has no reader, or a transform does what a transform must not.
            DataError: from the readers, or if the training samples fill no batch.
        """
        parts = _PARTS[TrainerFn(stage)]
        for part in parts:
            if part in self.datasets:
                continue
            if part == "predict":
                samples, table = self._images_to_predict(), LabelTable(self.info, {}, {})
            elif self.readers[part] is not None:
                listing = self._list_complete(part)
                samples, table = listing.samples, listing.table
                del self._listings[part]
                self._announce(part, listing)
            elif part == "val" and stage == "fit":
                continue
            else:
                command = TrainerFn(stage).value
                raise ConfigError(f"{command} needs data.{part}: give it a reader, such as lightning_seg.data.Folder")
            pipeline, placements, setting = self._pipeline(part)
            check_transforms(pipeline, self.info.ignore_index, table.dtype, setting)
            self.datasets[part] = SegmentationDataset(
                samples,
                table,
                pipeline,
                seed=self.seed,
                keep_truth=part in ("val", "test"),
                reduced_decoding=self.reduced_decoding and part == "train",
                skip_unreadable=self.skip_unreadable and part == "train",
                placements=placements,
                rules=self.rules,
            )
        for reader in self.readers.values():
            if reader is not None:
                reader.release()
        if stage == "fit" and self.cache == "ram":
            fresh = [self.datasets[part] for part in parts if part in self.datasets]
            fresh = [dataset for dataset in fresh if dataset.cache is None]
            id_bytes = [dataset.table.dtype.itemsize for dataset in fresh]
            skips = [dataset.skip_unreadable for dataset in fresh]
            caches = share_caches([dataset.samples for dataset in fresh], id_bytes, skips, self.rules)
            for dataset, kept in zip(fresh, caches, strict=True):
                dataset.cache = kept
        if "train" in parts and self.sampler == "rare_class" and self.class_pixels is None:
            self.class_pixels = self._count_class_pixels()

    def try_transforms(self, part: str) -> None:
        """Try the transforms of ``train`` or ``val`` out.

        Raises:
            ConfigError: if one does what a transform must not.
        """
        pipeline, _, setting = self._pipeline(part)
        check_transforms(pipeline, self.info.ignore_index, LabelTable(self.info, {}, {}).dtype, setting)

    def count_samples(self, part: str) -> int | None:
        """How many samples ``train`` or ``val`` has, listed once and kept for what comes after.

        Args:
            part: ``train`` or ``val``.

        Returns:
            None without a reader.

        Raises:
            DataError: from the reader.
        """
        reader = self.readers[part]
        if reader is None:
            return None
        return len(self._list_complete(part).samples)

    def _list_complete(self, part: str) -> Listing:
        """List a split of which no file lacks its partner."""
        listing = self._list(part)
        if listing.refusal is not None:
            raise DataError(f"data.{part}: {listing.refusal}\n{EVERY_DEFECT}")
        return listing

    def _list(self, part: str) -> Listing:
        """List a split once, and keep it for :meth:`setup`."""
        reader = self.readers[part]
        assert reader is not None
        if part not in self._listings:
            self._listings[part] = list_split(part, reader, self.root, self.labelling, self.rules)
        return self._listings[part]

    def _pipeline(self, part: str) -> tuple[A.Compose, Placements | None, str]:
        """The transforms of a split, where they put images in evaluation, and what they are called in the config."""
        name = "train_transforms" if part == "train" else "eval_transforms"
        pipeline = build_pipeline(getattr(self, name), self.info.ignore_index)
        return pipeline, None if part == "train" else Placements(pipeline.transforms), f"data.{name}"

    def train_dataloader(self) -> SegmentationLoader:
        dataset = self.datasets["train"]
        world_size, rank = self._processes()
        if len(dataset) < self.batch_size * world_size:
            raise DataError(
                f"data.train has {len(dataset)} samples, fewer than one batch of {self.batch_size} on each of "
                f"{world_size} processes: lower data.batch_size"
            )
        settings: dict[str, Any] = {
            "num_replicas": world_size,
            "rank": rank,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "samples_done": self._samples_done,
        }
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]  # of pl.Trainer
            sampler: TrainSampler = OverfitSampler(dataset, **settings)
        elif self.class_pixels is None:
            sampler = TrainSampler(dataset, **settings)
        else:
            sampler = RareClassSampler(dataset, self.class_pixels, **settings)
        return build_loader(dataset, sampler, batch_size=self.batch_size, num_workers=self._workers())

    def val_dataloader(self) -> SegmentationLoader | list[SegmentationLoader]:
        return self._evaluation_loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> SegmentationLoader:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> SegmentationLoader:
        return self._evaluation_loader("predict")

    def _evaluation_loader(self, part: str) -> SegmentationLoader:
        world_size, rank = self._processes()
        dataset = self.datasets[part]
        sampler = EvaluationSampler(dataset, num_replicas=world_size, rank=rank)
        failures = self.failures if part == "predict" else None
        return build_loader(
            dataset, sampler, batch_size=self.eval_batch_size, num_workers=self._workers(), failures=failures
        )

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    @property
    def global_batch(self) -> int:
        """Samples of a batch over all processes."""
        return self.batch_size * self._processes()[0]

    def state_dict(self) -> dict[str, Any]:
        return self.position.state(self.global_batch, self._order())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position.load(state_dict)

    def order_problems(self, *, inside: bool) -> list[str]:
        """Why an epoch of the checkpoint that was loaded cannot go on, if it was written inside one, or not at all."""
        return self.position.problems(self._order(), inside=inside)

    def order_changes(self) -> list[str]:
        """What an epoch's order hangs on that is other than in the checkpoint that was loaded."""
        return self.position.changes(self._order())

    def batches_begun(self, epoch: int, batches: int, limit: int, *, start: bool = False) -> int:
        """As of :meth:`lightning_seg.data.loading.position.EpochPosition.batches_begun`; ``start``: and go on there."""
        find = self.position.start_at if start else self.position.batches_begun
        return find(epoch, batches, limit=limit, global_batch=self.global_batch, length=len(self.datasets["train"]))

    def _samples_done(self) -> int:
        """Where the epoch that begins starts in its order: not at 0 in a run that is resumed inside it."""
        if self.trainer is None or not self.trainer.training:
            return 0
        ready = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self.position.samples(self.trainer.current_epoch, ready, self.global_batch)

    def _order(self) -> dict[str, Any]:
        """All that an epoch's order hangs on."""
        if self._names is None:
            self._names = digest_of_names(self.datasets["train"].samples)
        return {"seed": self.seed, "data.sampler": self.sampler, "the samples of data.train": self._names}

    def _count_class_pixels(self) -> NDArray[np.int64]:
        """(N, C) of the training masks; each process counts a part of them."""
        world_size, rank = self._processes()
        train = self.datasets["train"]
        pixels = ClassPixels(train.samples, train.table, skip_unreadable=train.skip_unreadable, rules=self.rules)
        mine = range(rank, len(pixels), world_size)
        counted = np.empty((len(pixels), self.info.num_classes), np.int64)
        for first, part in enumerate(gather(lambda: count_class_pixels(pixels, mine, self._workers()))):
            counted[first::world_size] = part
        if not counted.any():
            raise DataError("data.sampler is rare_class, but no pixel of data.train is labelled")
        return counted

    def _workers(self) -> int:
        if self.num_workers is not None:
            return self.num_workers
        local = self.trainer.num_devices if self.trainer is not None else None
        return min(usable_cpus(local), MAX_DEFAULT_WORKERS)

    def _classes_of_source(self, label_map: Mapping[int | str, str]) -> tuple[list[str], Mapping[str, Colour]]:
        """Names, after mapping, and colours of the first reader whose source has any."""
        source: SourceLabels | None = None
        for reader in self.readers.values():
            if reader is not None and (source := reader.labels(self.root)) is not None:
                break
        if source is None:
            raise ConfigError("data.classes is empty: list the class names in id order")
        keys = split_keys(label_map, source.all_names)
        targets: dict[str, list[str]] = {}
        for value, name in source.values.items():
            if name is not None:
                targets.setdefault(name, []).append(keys.by_value.get(value, keys.by_name.get(name, keys.rest or name)))
        untold = {name: [keys.by_name.get(name, keys.rest or name)] for name in source.names}
        mapped = [target for name in source.names for target in {**untold, **targets}[name]]
        names = [name for name in dict.fromkeys(mapped) if name != IGNORE]
        return names, {name: colour for name, colour in source.palette.items() if name in names}

    def _announce(self, part: str, listing: Listing) -> None:
        """Say what is left out, and once how labels are read, where that is not plain."""
        table = listing.table
        if listing.left_out is not None:
            rank_zero_warn(f"data.{part}: {listing.left_out}")
        plain = not self.labelling.label_map and self.labelling.unknown == "refuse"
        if not plain and not any(
            dataset.table.values == table.values and dataset.table.colours == table.colours
            for dataset in self.datasets.values()
        ):
            seen = ""
            if (figures := self._seen.get(part)) is not None and figures.labels:
                seen = f"\n  seen in {figures.masks} masks: {show_shares(figures.labels)}"
            rank_zero_info(f"data.{part}, stored labels of each class:\n{table}{seen}")

    def _images_to_predict(self) -> list[Sample]:
        """List them once, and keep them for :meth:`setup`."""
        if self._predicted is None:
            if self.predict_from is None:
                raise ConfigError("predict needs images: --data.predict IMAGE, FOLDER or 'GLOB'")
            readers = [reader for reader in self.readers.values() if reader is not None]
            self._predicted = images_to_predict(self.predict_from, self.root, readers)
        return self._predicted


def _parse_palette(palette: Mapping[str, str | Sequence[int]]) -> dict[str, Colour]:
    colours = {}
    for name, text in palette.items():
        try:
            colours[name] = parse_colour(text)
        except ValueError as error:
            raise ConfigError(f"data.palette, {name}: {error}") from None
    return colours


def _dataset_info(
    classes: Sequence[str], ignore_index: int, palette: Mapping[str, Colour], known: set[int | str]
) -> DatasetInfo:
    """Names and the colours of pictures; ``known`` are names that the palette may have beside the classes."""
    if IGNORE in classes:
        raise ConfigError(f"data.classes names {IGNORE!r}, which stands for pixels that do not count: rename the class")
    if len(classes) == 1:
        raise ConfigError(
            f"{classes[0]!r} is the only class: name the background too, as in data.classes: [background, "
            f"{classes[0]}], or with the reader's background"
        )
    if doubles := sorted({name for name in classes if classes.count(name) > 1}):
        raise ConfigError(f"data.classes names {', '.join(doubles)} more than once")
    if 0 <= ignore_index < len(classes):
        raise IgnoreIsClassError(
            f"data.ignore_index {ignore_index} is the id of class {classes[ignore_index]!r}: "
            f"choose a value outside 0 to {len(classes) - 1}"
        )
    if unknown := sorted(palette.keys() - set(classes) - known):
        raise ConfigError(f"data.palette colours {', '.join(unknown)}, which data.classes does not name")
    colours = dict(zip(classes, default_palette(len(classes)), strict=True)) | dict(palette)
    return DatasetInfo(tuple(classes), ignore_index, tuple(colours[name] for name in classes))
