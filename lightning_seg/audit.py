"""Finds what is wrong with a data set before an expensive job does: ``python -m lightning_seg.audit --config C``."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import pytorch_lightning as pl
from jsonargparse import SUPPRESS, Namespace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lightning_seg.arguments import MergingConfigFile, Parser
from lightning_seg.checkpoints.runs import new_run, root_of_runs
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.auditing.audit import Audit, audit
from lightning_seg.data.auditing.examine import Examination
from lightning_seg.data.auditing.lines import VALUE_TITLES, PixelKeys, table_of_bands
from lightning_seg.data.auditing.page import write_page
from lightning_seg.data.auditing.statistics import WEIGHT_FORMULA
from lightning_seg.data.labels.label_map import IGNORE
from lightning_seg.data.listing.defects import MEANINGS, Defect, remedies
from lightning_seg.data.listing.splits import Listing, list_splits
from lightning_seg.errors import ConfigError, DataError, IgnoreIsClassError, LightningSegError
from lightning_seg.files import use_utf8
from lightning_seg.models.recipe import load_recipe
from lightning_seg.module import SegmentationModule
from lightning_seg.preflight.problems import folder_problem

SHOWN = 10
"""How many defects of each kind are printed."""

SHOWN_LABELS = 24
"""How many stored values are printed."""


def main(args: Sequence[str] | None = None) -> int:
    """Audit the data of an experiment.

    Returns:
        The exit status: 1 if there is a defect, else 0. Wrong usage exits with 2.
    """
    use_utf8()
    config = parse(args)
    try:
        return _run(config)
    except LightningSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(args: Sequence[str] | None = None) -> Namespace:
    """Read the config and flags of an experiment, as ``fit`` does; only ``data`` matters."""
    parser = Parser(
        prog="python -m lightning_seg.audit",
        description="Checks every image and mask of an experiment's data. Takes what train.py fit takes; reads only "
        "the data group. Exit status: 0 clean, 1 defects, 2 wrong usage.",
    )
    parser.add_argument("-c", "--config", action=MergingConfigFile, help="YAML file; later ones and flags win.")
    parser.add_argument("--name", type=str | None, default=None, help="Folder of the run below runs/.")
    for name in ("seed_everything", "ckpt_path", "weights_only"):  # of fit
        parser.add_argument(f"--{name}", type=str | int | bool | None, default=None, help=SUPPRESS)
    parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)
    linked = {"class_names", "ignore_index"}
    parser.add_class_arguments(SegmentationModule, "model", fail_untyped=False, sub_configs=True, skip=linked)
    parser.add_class_arguments(pl.Trainer, "trainer", fail_untyped=False, sub_configs=True)
    return parser.parse_args(sys.argv[1:] if args is None else list(args))


def _run(config: Namespace) -> int:
    console = Console()
    source = str(config.config[0]) if config.config else "data"
    name = config.name or (Path(source).stem if config.config else "default")
    root = root_of_runs(config.trainer.default_root_dir, name)
    if problem := folder_problem(root / name):  # before all is read for nothing
        raise ConfigError(problem)
    data, listings, known = _open_data(config.data, source)
    if not listings:
        raise DataError("there is nothing to audit: data.train, data.val and data.test are all null")
    result = audit(listings, data.info, _Bar(console), known, _pixel_keys(config.model))
    weights = _weights_to_paste(result)
    _print_figures(console, result, weights)
    _print_pixels(console, result)
    _print_labels(console, result)
    _print_defects(console, result.defects)
    try:
        run = new_run(root, name)
        (run.path / "audit.json").write_text(json.dumps(result.as_json(), indent=1))
        write_page(run.path / "audit.html", name, result, listings, weights)
    except OSError as error:
        raise ConfigError(f"the files of the audit cannot be written: {error}; set trainer.default_root_dir") from None
    console.print(f"Results in {run.path}:\n  {run.path / 'audit.html'}\n  {run.path / 'audit.json'}", soft_wrap=True)
    return 1 if result.defects else 0


def _pixel_keys(model: Namespace) -> PixelKeys:
    """What the network's config calls mean and std; Detectron2's names, if the config itself is wrong: fit says so."""
    try:
        recipe = load_recipe(model.config, model.overrides or {})
    except LightningSegError:
        return PixelKeys()
    return PixelKeys(recipe.keys.pixel_mean, recipe.keys.pixel_std, recipe.bgr)


def _open_data(settings: Namespace, source: str) -> tuple[SegmentationDataModule, dict[str, Listing], list[Defect]]:
    """The data module, without transforms, its samples, and the defects of the settings.

    An ignore index, or an ignored colour, that is a class as well gives way to the class, so that all else is audited.
    """
    parser = Parser()
    parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)

    changes: dict[str, object] = {"train_transforms": None, "eval_transforms": None}
    known: list[Defect] = []

    def build() -> SegmentationDataModule:
        changed = Namespace({**vars(settings), **changes})  # type: ignore[no-untyped-call]
        data: SegmentationDataModule = parser.instantiate(Namespace(data=changed)).data  # type: ignore[no-untyped-call]
        return data

    try:
        data = build()
    except IgnoreIsClassError as error:
        known.append(Defect("ignore_is_class", "train", source, str(error)))
        changes["ignore_index"] = -1  # no file stores it
        data = build()
    data.prepare_data()
    try:
        listings = list_splits(data.readers, data.root, data.labelling, data.rules)
    except IgnoreIsClassError as error:
        known.append(Defect("ignore_is_class", "train", source, str(error)))
        changes["palette"] = {name: colour for name, colour in settings.palette.items() if name != IGNORE}
        data = build()
        listings = list_splits(data.readers, data.root, data.labelling, data.rules)
    known += [
        Defect("ignore_is_class", split, source, f"the source's value of class {name!r} is ignored: it is never learnt")
        for split, listing in listings.items()
        for name in listing.lost
    ]
    return data, listings, known


class _Bar:
    """Shows progress on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, examinations: Iterable[Examination], total: int) -> Iterable[Examination]:
        columns = (
            TextColumn("Auditing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self.console) as progress:
            yield from progress.track(examinations, total=total)


def _weights_to_paste(result: Audit) -> str:
    listed = ", ".join(f"{weight:g}" for weight in result.weights)
    return (
        "model:\n  criterion:\n    class_path: lightning_seg.losses.CrossEntropy\n"
        f"    init_args: {{class_weights: [{listed}]}}"
    )


def _print_figures(console: Console, result: Audit, weights: str) -> None:
    table = Table("class", *(f"{split}, %" for split in result.splits), "weight", title="Counted pixels of each class")
    for column in table.columns[1:]:
        column.justify = "right"
    for index, name in enumerate(result.info.names):
        shares = [
            100 * figures.class_pixels[index] / max(1, figures.class_pixels.sum()) for figures in result.splits.values()
        ]
        table.add_row(name, *(f"{share:.3f}" for share in shares), f"{result.weights[index]:g}")
    console.print(table)
    for split, figures in result.splits.items():
        _print(console, f"{split}: {figures.images} images; sizes {_describe_sizes(figures.sizes)}")
    _print(console, f"Class weights by {WEIGHT_FORMULA}:\n{weights}")


def _print_pixels(console: Console, result: Audit) -> None:
    for split, figures in result.splits.items():
        if (pixels := figures.usual_pixels) is None:
            continue
        table = Table("", *VALUE_TITLES, title=f"Values of {split}, {pixels.type}")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in table_of_bands(pixels, result.bands):
            table.add_row(*row)
        console.print(table)
    for text in result.advice:
        _print(console, text)


def _describe_sizes(sizes: Counter[tuple[int, int]]) -> str:
    """A few sizes with their numbers of images; if there are many, their ranges and the most frequent ones."""
    listed = ", ".join(f"{width}×{height} ({count})" for (height, width), count in sizes.most_common(5))
    if len(sizes) <= 5:
        return listed or "unknown, since none can be read"
    heights, widths = ({size[axis] for size in sizes} for axis in (0, 1))
    return (
        f"{min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high; {len(sizes)} different, such as "
        f"{listed}"
    )


def _print_labels(console: Console, result: Audit) -> None:
    """Print the values in mask files and their shares; a value with a meaning for each split has a row for each."""
    totals = {split: max(1, sum(label.pixels for label in labels)) for split, labels in result.labels.items()}
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for split, labels in result.labels.items():
        for label in labels:
            rows.setdefault((label.stored, label.meaning), {})[split] = 100 * label.pixels / totals[split]
    if not rows:
        return
    table = Table("stored", "stands for", *(f"{split}, %" for split in totals), title="All values in the masks")
    for column in table.columns[2:]:
        column.justify = "right"
    for (stored, meaning), shares in list(rows.items())[:SHOWN_LABELS]:
        table.add_row(stored, meaning, *(f"{shares.get(split, 0):.3f}" for split in totals))
    console.print(table)
    if len(rows) > SHOWN_LABELS:
        _print(console, f"and {len(rows) - SHOWN_LABELS} more in audit.json")


def _print_defects(console: Console, defects: Sequence[Defect]) -> None:
    if not defects:
        _print(console, "\nNo defects were found", style="bold green")
    for kind, group in groupby(defects, key=lambda defect: defect.kind):
        members = list(group)
        _print(console, f"\n{kind} ({len(members)}): {MEANINGS[kind]}", style="bold red")
        for defect in members[:SHOWN]:
            _print(console, f"  {defect.split}: {defect.told}")
        if len(members) > SHOWN:
            _print(console, f"  and {len(members) - SHOWN} more in audit.json")
        for remedy in remedies(members):
            _print(console, remedy)


def _print(console: Console, text: str, style: str | None = None) -> None:
    """Print a text unchanged and without breaking paths; a file name may be no valid text."""
    plain = text.encode(errors="replace").decode()
    console.print(plain, style=style, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
