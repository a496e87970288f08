"""Lists the labels that are probably wrong: ``python -m lightning_seg.review --ckpt_path P [--split train]``."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import SUPPRESS, ActionYesNo, ArgumentError, Namespace

from lightning_seg.arguments import MergingConfigFile, Parser
from lightning_seg.checkpoints.evaluated import checkpoint_in, chooses_model, config_of_checkpoint
from lightning_seg.checkpoints.lock import claim_folder, release_folders
from lightning_seg.config_paths import expanded
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import CheckpointError, ConfigError, DataError, LightningSegError
from lightning_seg.files import sha256, use_utf8
from lightning_seg.machine import usable_cpus
from lightning_seg.module import SegmentationModule
from lightning_seg.reviewing.decisions import read_decisions
from lightning_seg.reviewing.folds import Folds
from lightning_seg.reviewing.judging import Judge, Processes, begin_together
from lightning_seg.reviewing.masks import write_ignored
from lightning_seg.reviewing.record import FOLDS, RESULTS, ReviewFolder
from lightning_seg.reviewing.results import write_results
from lightning_seg.structures import Sample, summarise
from lightning_seg.trained.module_network import ModuleNetwork, find_device, load_checkpoint
from lightning_seg.training import fit

_MOST_WORKERS = 4


def main(args: Sequence[str] | None = None) -> int:
    """Review a split, or write masks of decisions.

    Returns:
        The exit status: 1 if something is wrong, else 0. Wrong usage exits with 2.
    """
    use_utf8()
    given = sys.argv[1:] if args is None else list(args)
    try:
        settings = parse(given)
        if settings.apply is not None:
            _apply(settings)
        else:
            _review(settings) if settings.folds is None else _review_folds(settings)
    except LightningSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        release_folders()
    return 0


def parse(args: Sequence[str]) -> Namespace:
    """Read the settings: those of the run that wrote the checkpoint, unless flags say otherwise.

    Raises:
        CheckpointError: if that run is not known and no ``--config`` is given.
        ConfigError: if flags do not go together.
    """
    parser = Parser(
        prog="python -m lightning_seg.review",
        description="Lists regions whose labels are probably wrong, the most certain first, with a page to decide on "
        "each. Several processes share the work under torchrun. Takes the data group of the checkpoint's run.",
    )
    parser.add_argument("-c", "--config", action=MergingConfigFile, help="YAML file; null: that of the run.")
    parser.add_argument("--ckpt_path", type=str | None, default=None, help="Run folder or checkpoint that judges.")
    parser.add_argument("--split", type=str, default="train", help="train, val or test.")
    parser.add_argument(
        "--folds", type=int | None, default=None, help="Train as many networks as the run was; each judges what it has "
        "not seen."
    )  # fmt: skip
    parser.add_argument(
        "--group_by", type=str | None, default=None, help="Regular expression: one fold for each match."
    )
    parser.add_argument("--output", type=str | None, default=None, help="Folder; null: review_<split> in the run's.")
    parser.add_argument("--overwrite", action=ActionYesNo, nargs="?", default=False, help="Begin anew.")
    parser.add_argument("--most", type=int, default=500, help="Suspects that are listed at most.")
    parser.add_argument("--shown", type=int, default=200, help="Suspects at most that the page shows.")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 or mps.")
    parser.add_argument("--apply", type=str | None, default=None, help="File of decisions that the page gave.")
    parser.add_argument("--write_ignored", type=str | None, default=None, help="Folder of the new masks.")
    for name in ("seed_everything", "name", "weights_only", "verbose"):  # of other commands
        parser.add_argument(f"--{name}", type=str | int | bool | None, default=None, help=SUPPRESS)
    parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)
    linked = {"class_names", "ignore_index"}
    parser.add_class_arguments(SegmentationModule, "model", fail_untyped=False, sub_configs=True, skip=linked)
    parser.add_class_arguments(pl.Trainer, "trainer", fail_untyped=False, sub_configs=True)
    arguments = list(args)
    if (found := config_of_checkpoint(["validate", *arguments])) is not None:
        arguments[:0] = ["--config", str(found)]
    elif not chooses_model(arguments):
        arguments[:0] = ["--model.config", "unused"]  # only the data matters
    settings = parser.parse_args(arguments)
    if (settings.apply is None) != (settings.write_ignored is None):
        raise ConfigError("--apply and --write_ignored go together: --apply decisions.json --write_ignored FOLDER")
    if settings.apply is None and settings.ckpt_path is None:
        raise ConfigError("review needs a trained model: give --ckpt_path a run folder or a checkpoint")
    if settings.split not in ("train", "val", "test"):
        raise ConfigError(f"--split is {settings.split}, but must be train, val or test")
    for name in ("most", "shown"):
        if settings[name] < 1:
            raise ConfigError(f"--{name} is {settings[name]}, but must be at least 1")
    if settings.folds is not None and settings.folds < 2:
        raise ConfigError(
            f"--folds is {settings.folds}, but must be at least 2: each is judged by what the others teach"
        )
    if settings.folds is None and settings.group_by is not None:
        raise ConfigError("--group_by keeps samples in one fold: give --folds, too")
    if settings.folds is not None and settings.data.fold is not None:
        raise ConfigError(
            f"the data is that of fold {settings.data.fold} (data.fold) already: give --folds the run of a whole "
            "split, or leave --folds out to review this fold"
        )
    settings.dumped = yaml.safe_load(parser.dump(settings, skip_unset=False))["data"]
    return settings


def reviewed_data(settings: Namespace, part: str) -> SegmentationDataModule:
    """The data module without transforms, which the checkpoint brings."""
    parser = Parser()
    parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)
    changed = Namespace(
        {**vars(settings), "train_transforms": None, "eval_transforms": None, "reduced_decoding": False}
    )  # type: ignore[no-untyped-call]
    data: SegmentationDataModule = parser.instantiate(Namespace(data=changed)).data  # type: ignore[no-untyped-call]
    if not data.listings.has(part):
        raise ConfigError(f"--split {part} needs data.{part}: give it a reader, such as lightning_seg.data.Folder")
    data.listings.prepare()
    return data


def _review(settings: Namespace) -> None:
    processes = Processes.of_environment()
    path = _checkpoint_of(settings)
    network = _load(path, processes.device(settings.device))
    data = reviewed_data(settings.data, settings.split)
    _refuse_other_classes(network, path, data)
    listing = data.listings.complete(settings.split)
    data.listings.release()
    folder = ReviewFolder(
        _output_of(settings, path),
        {
            "checkpoint": sha256(path), "split": settings.split, "classes": data.info.names, "data": settings.dumped,
        },
    )  # fmt: skip
    judge = Judge(network, listing, folder, processes)
    with processes.joined():
        done = begin_together(processes, folder, listing.samples, overwrite=settings.overwrite)
        left = [position for position, sample in enumerate(listing.samples) if sample.name not in done]
        judge.judge(left, min(usable_cpus(processes.count), _MOST_WORKERS))
        failures = [text for texts in processes.share(judge.failures) for text in texts]
        if processes.rank == 0:
            _write_results(settings, judge)
        processes.share(None)
    _refuse_failures(failures, listing.samples)


def _review_folds(settings: Namespace) -> None:
    """Train a network for each fold on the others, and let it judge the fold; all suspects are ranked together."""
    processes = Processes.of_environment()
    if processes.count > 1:
        raise ConfigError("review --folds trains and judges in one process: start it without torchrun or srun")
    path = _checkpoint_of(settings)
    config = config_of_checkpoint(["validate", "--ckpt_path", settings.ckpt_path])
    if config is None:
        raise ConfigError(f"--folds repeats the training of a run: give --ckpt_path a run folder, not {path}")
    device = find_device(settings.device)
    data = reviewed_data(settings.data, settings.split)
    listing = data.listings.complete(settings.split)
    output = _output_of(settings, path)
    folds = Folds(
        config, settings.split, settings.folds, settings.group_by, settings.dumped, output.absolute() / FOLDS
    )  # fmt: skip
    positions = folds.positions(listing.samples, data.readers[settings.split], data.root)
    data.listings.release()
    folder = ReviewFolder(
        output,
        {
            **folds.made_with(listing.samples), "split": settings.split, "classes": data.info.names,
            "data": settings.dumped,
        },
    )  # fmt: skip
    done = begin_together(processes, folder, listing.samples, overwrite=settings.overwrite)
    failures: list[str] = []
    for number, members in enumerate(positions):
        path = folds.checkpoint(number, lambda file, options: fit(file, options).path)
        claim_folder(folder.path, predicts=True)  # a training releases all
        network = _load(path, device)
        _refuse_other_classes(network, path, data)
        judge = Judge(network, listing, folder, processes)
        left = [position for position in members if listing.samples[position].name not in done]
        judge.judge(left, min(usable_cpus(1), _MOST_WORKERS))
        failures += judge.failures
    _write_results(settings, judge)
    _refuse_failures(failures, listing.samples)


def _checkpoint_of(settings: Namespace) -> Path:
    path = Path(expanded(settings.ckpt_path))
    return checkpoint_in(path) if path.is_dir() else path


def _load(path: Path, device: torch.device) -> ModuleNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_checkpoint(path, device)


def _refuse_other_classes(network: ModuleNetwork, path: Path, data: SegmentationDataModule) -> None:
    if data.info.names != network.images.info.names:
        raise CheckpointError(
            f"{path} was trained on the classes {summarise(network.images.info.names)}, but the data has "
            f"{summarise(data.info.names)}: give the data of its training"
        )


def _refuse_failures(failures: Sequence[str], samples: Sequence[Sample]) -> None:
    if failures:
        raise DataError(f"{len(failures)} of {len(samples)} samples could not be judged: {summarise(failures)}")


def _output_of(settings: Namespace, checkpoint: Path) -> Path:
    if settings.output is not None:
        return Path(expanded(settings.output))
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return run / (f"review_{settings.split}" if settings.folds is None else f"review_{settings.split}_folds")


def _write_results(settings: Namespace, judge: Judge) -> None:
    total = write_results(judge, settings.split, settings.dumped, settings.most, settings.shown)
    print(f"{total} suspects in {len(judge.listing.samples)} images; {min(total, settings.most)} are listed in")
    for name in RESULTS:
        print(f"  {judge.folder.path / name}")


def _apply(settings: Namespace) -> None:
    decisions = read_decisions(Path(expanded(settings.apply)))
    if settings.config is None:
        parser = Parser(exit_on_error=False)
        parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)
        try:
            data_settings = parser.parse_object({"data": decisions.data}).data
        except ArgumentError as error:
            raise ConfigError(f"{settings.apply} has other data settings than this version knows: {error}") from None
    else:
        data_settings = settings.data
    data = reviewed_data(data_settings, decisions.split)
    listing = data.listings.complete(decisions.split)
    data.listings.release()
    written, changed = write_ignored(decisions, listing, Path(expanded(settings.write_ignored)), data.root)
    print(f"{written} files in {settings.write_ignored}; {changed} images have newly ignored regions")


if __name__ == "__main__":
    sys.exit(main())
