"""Curves, IoU of each class and a comparison of runs: ``python -m lightning_seg.plot RUN [RUN …]``.

Draws from the files that every run folder has, so that no service is needed.
"""

import argparse
import base64
import csv
import html
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_seg.errors import ConfigError, LightningSegError
from lightning_seg.files import use_utf8
from lightning_seg.structures import over_classes

CURVES = ("train/loss", "val/loss", "val/mIoU", "val/pAcc", "lr/0", "lr/head", "train/grad_norm", "perf/images_per_s")
"""Drawn where at least one run has them."""

_AVERAGES = ("mIoU", "mAcc", "pAcc", "fwIoU")


@dataclass(frozen=True)
class Run:
    """What one run folder says.

    Attributes:
        name: the last two parts of its path.
        curves: (step, value) pairs by logged name.
        metrics: ``metrics.json``, or nothing where no evaluation ended.
    """

    name: str
    curves: dict[str, list[tuple[int, float]]]
    metrics: dict[str, Any]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ConfigError: if it is none, or one of its files is not a run's.
    """
    table, figures = folder / "metrics.csv", folder / "metrics.json"
    if not table.is_file() and not figures.is_file():
        raise ConfigError(f"{folder} is no run: neither metrics.csv nor metrics.json is there")
    curves = _read_curves(table) if table.is_file() else {}
    metrics = _read_figures(figures) if figures.is_file() else {}
    return Run("/".join(folder.resolve().parts[-2:]), curves, metrics)


def _read_curves(table: Path) -> dict[str, list[tuple[int, float]]]:
    """Points by name; without a last row that a killed run has not written to its end."""
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        lines = table.read_bytes().decode().splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))
        for row in rows:
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    curves.setdefault(name, []).append((int(row["step"]), float(value)))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(f"{table} is not the metrics.csv of a run ({type(error).__name__}: {error})") from None
    return curves


def _read_figures(file: Path) -> dict[str, Any]:
    try:
        figures = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file} is not the metrics.json of a run ({error})") from None
    needed = ("split", *_AVERAGES, "IoU", "confusion_matrix", "num_images")
    if missing := [name for name in needed if not isinstance(figures, dict) or name not in figures]:
        raise ConfigError(f"{file} is not the metrics.json of a run: it has no {', '.join(missing)}")
    return dict(figures)


def draw_curves(runs: Sequence[Run]) -> Any:
    """A figure with one panel for each of :data:`CURVES` and one line for each run."""
    names = [name for name in CURVES if any(name in run.curves for run in runs)]
    figure = _figure(11, 2.6 * max(1, -(-len(names) // 2)))
    columns = min(2, max(1, len(names)))
    panels = figure.subplots(-(-max(1, len(names)) // columns), columns, squeeze=False).flat
    for panel, name in zip(panels, names, strict=False):
        for number, run in enumerate(runs):
            points = run.curves.get(name, [])
            panel.plot(
                *zip(*points, strict=True) if points else ((), ()),
                color=f"C{number}", label=run.name, linewidth=1.2, marker="." if len(points) < 30 else None,
            )  # fmt: skip
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("optimiser steps", fontsize=8)
        panel.grid(alpha=0.3)
    for panel in figure.axes[len(names) :]:
        panel.set_visible(False)
    if names:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


def draw_classes(runs: Sequence[Run]) -> Any:
    """A figure with the IoU of each class as bars, one colour a run; the best classes of the first run on top."""
    evaluated = [run for run in runs if run.metrics]
    classes = list(dict.fromkeys(name for run in evaluated for name in run.metrics["IoU"]))
    first = evaluated[0].metrics["IoU"]
    classes.sort(key=lambda name: first.get(name) or 0.0)
    figure = _figure(8, 1.2 + len(classes) * (0.12 + 0.14 * len(evaluated)))
    panel = figure.subplots()
    height = 0.8 / len(evaluated)
    for number, run in enumerate(evaluated):
        places = [index + (len(evaluated) / 2 - number - 0.5) * height for index in range(len(classes))]
        values = [run.metrics["IoU"].get(name) for name in classes]
        panel.barh(
            places,
            [value or 0.0 for value in values],
            height,
            label=f"{run.name}: mIoU {run.metrics['mIoU'] or 0:.3f}{_over(run)}",
            color=f"C{number}",
        )
        for place, value, name in zip(places, values, classes, strict=True):
            if value is None and name in run.metrics["IoU"]:
                panel.text(0.005, place, "no pixels", va="center", fontsize=7, color=f"C{number}")
    panel.set_yticks(range(len(classes)), classes, fontsize=8)
    panel.set_xlim(0, 1)
    panel.set_ylim(-0.6, len(classes) - 0.4)
    panel.set_xlabel("IoU", fontsize=8)
    panel.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def draw_confusion(run: Run) -> Any:
    """A figure of the shares of each true class's pixels that are predicted as each class."""
    import numpy as np

    counts, classes = np.array(run.metrics["confusion_matrix"]), list(run.metrics["IoU"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(14.0, 3 + 0.35 * len(classes))
    figure = _figure(side + 1, side)
    panel = figure.subplots()
    figure.colorbar(panel.imshow(shares, vmin=0, vmax=1, cmap="Blues"), label="share of the true class's pixels")
    if len(classes) <= 50:
        panel.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
        panel.set_yticks(range(len(classes)), classes, fontsize=8)
    if len(classes) <= 20:
        for (true, predicted), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.6 else "black"
                panel.text(predicted, true, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    panel.set_title(run.name, fontsize=10)
    return figure


def write_report(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``curves.png``, ``classes.png``, ``confusion.png`` (of one run alone) and ``report.html``.

    Returns:
        The files; the last one holds the pictures itself.
    """
    figures = {"curves": draw_curves(runs)} if any(run.curves for run in runs) else {}
    evaluated = [run for run in runs if run.metrics]
    if evaluated:
        figures["classes"] = draw_classes(runs)
    if len(evaluated) == 1:
        figures["confusion"] = draw_confusion(evaluated[0])
    folder.mkdir(parents=True, exist_ok=True)
    files, pictures = [], []
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        files.append(folder / f"{name}.png")
        files[-1].write_bytes(buffer.getvalue())
        code = base64.b64encode(buffer.getvalue()).decode()
        pictures.append(f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{code}">')
    page = folder / "report.html"
    page.write_text(
        "<!doctype html><meta charset=utf-8><title>lightning_seg</title><style>"
        "body{font:15px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:right}img{max-width:100%}</style>"
        f"<h1>{html.escape(', '.join(run.name for run in runs))}</h1>{_table(evaluated)}{''.join(pictures)}\n"
    )
    return [*files, page]


def _table(runs: Sequence[Run]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("run", "split", *_AVERAGES, "images"))
    rows = [
        [run.name, run.metrics["split"]]
        + [_shown(run.metrics[name]) + (_over(run) if name == "mIoU" else "") for name in _AVERAGES]
        + [str(run.metrics["num_images"])]
        for run in runs
    ]
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _over(run: Run) -> str:
    """Over how many classes its mIoU is, where those are not all."""
    figures = run.metrics["IoU"].values()
    return over_classes(sum(value is not None for value in figures), len(figures))


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; folders that are no runs are named, and end it with status 1 where nothing else is given."""
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
    for file in write_report(list(runs.values()), output):
        print(file)


if __name__ == "__main__":
    main()
