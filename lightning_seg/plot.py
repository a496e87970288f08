"""Compares curves, figures, settings and pictures of runs: ``python -m lightning_seg.plot RUN [RUN …]``.

It reads the files that every run folder has, and needs no service.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_seg.errors import ConfigError, DiskFullError, LightningSegError
from lightning_seg.files import replacing, use_utf8
from lightning_seg.metrics.comparison import CONFIDENCE, DRAWS
from lightning_seg.plotting.calibration import draw_calibration
from lightning_seg.plotting.comparison import Compared, compare_sides
from lightning_seg.plotting.errors import draw_errors
from lightning_seg.plotting.figures import colours_of, draw_classes, draw_confusion, draw_curves, draw_differences
from lightning_seg.plotting.folds import Folds, folds_of
from lightning_seg.plotting.page import write_page
from lightning_seg.plotting.runs import Run, read_run, with_distinct_names
from lightning_seg.plotting.seeds import Side, sides_of


def write_report(
    runs: Sequence[Run],
    folder: Path,
    folds: Folds | None = None,
    compared: Sequence[Compared] = (),
    refused: str = "",
    sides: Sequence[Side] = (),
) -> list[Path]:
    """Write the pictures, ``comparison.json`` for several runs, and ``report.html``.

    ``curves.png`` is of trainings, ``classes.png`` and ``errors.png`` of evaluations, ``confusion.png`` of one alone,
    ``comparison.png`` of runs that are compared.

    Args:
        runs: at least one.
        folder: is made if it is missing.
        folds: what the runs are of, if they are of a cross-validation.
        compared: pairs of runs, or of configurations.
        refused: why they are not compared.
        sides: the evaluated runs by configuration.

    Returns:
        The files; the last one, the page, contains all pictures.
    """
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a name may hold $
        pictures = {name: _as_png(figure) for name, figure in _draw(runs, compared).items()}
    files = {folder / f"{name}.png": content for name, content in pictures.items()}
    if len(runs) > 1:
        said: dict[str, Any] = {"confidence": CONFIDENCE, "draws": DRAWS, "not_compared": refused or None}
        several = [side for side in sides if len(side.runs) > 1]
        said["seeds"] = [side.as_json() for side in several]
        said["comparisons"] = [pair.as_json() for pair in compared]
        files[folder / "comparison.json"] = json.dumps(said, indent=1).encode()
    for path, content in files.items():
        with replacing(path, synced=False) as file:
            file.write(content)
    write_page(folder / "report.html", runs, pictures, folds, compared, refused, sides)
    return [*files, folder / "report.html"]


def _draw(runs: Sequence[Run], compared: Sequence[Compared]) -> dict[str, Any]:
    """Figures by the names of their files."""
    figures = {}
    if compared:
        colours = dict(zip((run.name for run in runs), colours_of(runs), strict=True))
        figures["comparison"] = draw_differences(compared, colours)
    if any(run.trained and run.curves for run in runs):
        figures["curves"] = draw_curves(runs)
    evaluated = [run for run in runs if run.metrics]
    if evaluated:
        figures["classes"] = draw_classes(runs)
    if any("errors" in run.metrics for run in evaluated):
        figures["errors"] = draw_errors(runs)
    if len(evaluated) == 1:
        figures["confusion"] = draw_confusion(evaluated[0])
    if any("calibration" in run.metrics for run in evaluated):
        figures["calibration"] = draw_calibration(runs)
    return figures


def _as_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command. It names folders that are no runs, and ends with status 1 if no run is left."""
    use_utf8()
    given = _parse(args)
    runs = _read(given.runs)
    if not runs:
        sys.exit(1)
    output = given.output or (runs[0].folder / "plots" if len(runs) == 1 else Path("plots"))
    folds = None
    try:
        folds = folds_of(runs)
    except ConfigError as error:
        print(f"no table of folds: {error}", file=sys.stderr)
    sides = sides_of(runs) if folds is None else []  # folds have other images each
    compared: list[Compared] = []
    refused = ""
    try:
        compared = compare_sides(sides, given.group_by)
    except ConfigError as error:
        if given.group_by is not None:
            sys.exit(f"error: {error}")
        refused = str(error)
        print(f"not compared: {error}", file=sys.stderr)
    try:
        files = write_report(runs, output, folds, compared, refused, sides)
    except DiskFullError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {output} cannot be written to ({error.strerror}): give another --output")
    several = [side for side in sides if len(side.runs) > 1]
    for told in (*files, *several, *compared, *([] if folds is None else [folds])):
        print(told)


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lightning_seg.plot", description="Draw and compare runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, runs/<name>/version_<n>")
    parser.add_argument("--output", type=Path, help="folder; by default plots/ in the only run, else in this folder")
    parser.add_argument(
        "--group_by", metavar="REGEX", help="its first group names the scene of an image; whole scenes are then drawn"
    )
    return parser.parse_args(args)


def _read(folders: Sequence[Path]) -> list[Run]:
    """The runs among some folders, each once; says which of them are none."""
    runs = []
    for folder in dict.fromkeys(folders):
        try:
            runs.append(read_run(folder))
        except LightningSegError as error:
            print(f"{'error' if len(folders) == 1 else 'left out'}: {error}", file=sys.stderr)
    return with_distinct_names(runs)


if __name__ == "__main__":
    main()
