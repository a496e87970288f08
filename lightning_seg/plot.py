"""Compares curves, figures, settings and pictures of runs: ``python -m lightning_seg.plot RUN [RUN …]``.

It reads the files that every run folder has, and needs no service.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import ConfigError, LightningSegError
from lightning_seg.files import use_utf8
from lightning_seg.plotting.calibration import draw_calibration
from lightning_seg.plotting.figures import colours_of, draw_classes, draw_confusion, draw_curves
from lightning_seg.plotting.folds import Folds, folds_of
from lightning_seg.plotting.page import write_page
from lightning_seg.plotting.runs import Run, read_run, with_distinct_names


def write_report(runs: Sequence[Run], folder: Path, folds: Folds | None = None) -> list[Path]:
    """Write ``curves.png`` for trainings, ``classes.png``, ``confusion.png`` for a single run, and ``report.html``.

    Args:
        runs: at least one.
        folder: is made if it is missing.
        folds: what the runs are of, if they are of a cross-validation.

    Returns:
        The files; the last one, the page, contains all pictures.
    """
    figures = {"curves": draw_curves(runs)} if any(run.trained and run.curves for run in runs) else {}
    evaluated = [run for run in runs if run.metrics]
    if evaluated:
        figures["classes"] = draw_classes(runs)
    if len(evaluated) == 1:
        figures["confusion"] = draw_confusion(evaluated[0])
    if any("calibration" in run.metrics for run in runs):
        figures["calibration"] = draw_calibration(runs, colours_of(runs))
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, bytes] = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        pictures[name] = buffer.getvalue()
        (folder / f"{name}.png").write_bytes(pictures[name])
    write_page(folder / "report.html", runs, pictures, folds)
    return [*(folder / f"{name}.png" for name in figures), folder / "report.html"]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command. It names folders that are no runs, and ends with status 1 if no run is left."""
    use_utf8()
    parser = argparse.ArgumentParser(prog="python -m lightning_seg.plot", description="Draw and compare runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, runs/<name>/version_<n>")
    parser.add_argument("--output", type=Path, help="folder; by default plots/ in the only run, else in this folder")
    given = parser.parse_args(args)
    runs: dict[Path, Run] = {}
    for folder in given.runs:
        try:
            runs[folder] = read_run(folder)
        except LightningSegError as error:
            print(f"{'error' if len(given.runs) == 1 else 'left out'}: {error}", file=sys.stderr)
    if not runs:
        sys.exit(1)
    output = given.output or (next(iter(runs)) / "plots" if len(runs) == 1 else Path("plots"))
    named = with_distinct_names([*runs.values()])
    folds = None
    try:
        folds = folds_of(named)
    except ConfigError as error:
        print(f"no table of folds: {error}", file=sys.stderr)
    for file in write_report(named, output, folds):
        print(file)
    if folds is not None:
        print(folds)


if __name__ == "__main__":
    main()
