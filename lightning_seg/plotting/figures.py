"""Draws curves, the IoU of each class and the confusion of classes with Matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_seg.plotting.comparison import Compared
from lightning_seg.plotting.figures_file import shown
from lightning_seg.plotting.runs import Run

CURVES = ("train/loss", "val/loss", "val/mIoU", "val/pAcc", "lr/0", "lr/head", "train/grad_norm", "perf/images_per_s")
"""The curves that are drawn if at least one run has them."""

_MARKED = 30
"""A curve of at most this many points has a mark at each."""


def colours_of(runs: Sequence[Run]) -> list[str]:
    """A colour for each run, ``#rrggbb``, the same in every figure and on the page."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    table = colormaps["tab10"] if len(runs) <= 10 else colormaps["turbo"].resampled(len(runs))
    return [to_hex(table(number)) for number in range(len(runs))]


def draw_curves(runs: Sequence[Run]) -> Any:
    """A figure with one panel for each of :data:`CURVES` and one line for each training; a ring at its best mIoU."""
    lines = [(run, colour) for run, colour in zip(runs, colours_of(runs), strict=True) if run.trained]
    names = [name for name in CURVES if any(name in run.curves for run, _ in lines)]
    columns = min(2, max(1, len(names)))
    rows = -(-max(1, len(names)) // columns)
    figure = new_figure(11, 2.6 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel, name in zip(panels, names, strict=False):
        for run, colour in lines:
            points = run.curves.get(name, [])
            marker = "." if len(points) < _MARKED else None
            panel.plot(
                *zip(*points, strict=True) if points else ((), ()),
                color=colour, label=run.name, linewidth=1.4, marker=marker,
            )  # fmt: skip
            if name == "val/mIoU" and run.best is not None:
                panel.scatter(*run.best, s=60, facecolors="none", edgecolors=colour, linewidths=1.4, zorder=3)
        panel.set_title(name, fontsize=10, loc="left", fontweight="bold", pad=10)
        panel.set_xlabel("optimiser steps", fontsize=8)
        tidy(panel)
    for panel in figure.axes[len(names) :]:
        panel.set_visible(False)
    if names:
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    return figure


def draw_classes(runs: Sequence[Run]) -> Any:
    """A figure with the IoU of each class as bars, one colour for each run; the first run's best classes on top."""
    evaluated = [(run, colour) for run, colour in zip(runs, colours_of(runs), strict=True) if run.metrics]
    classes = list(dict.fromkeys(name for run, _ in evaluated for name in run.metrics["IoU"]))
    first = evaluated[0][0].metrics["IoU"]
    classes.sort(key=lambda name: first.get(name) or 0.0)
    figure = new_figure(8, 1.2 + len(classes) * (0.12 + 0.14 * len(evaluated)))
    panel = figure.subplots()
    height = 0.8 / len(evaluated)
    for number, (run, colour) in enumerate(evaluated):
        places = [index + (len(evaluated) / 2 - number - 0.5) * height for index in range(len(classes))]
        values = [run.metrics["IoU"].get(name) for name in classes]
        panel.barh(
            places,
            [value or 0.0 for value in values],
            height,
            label=f"{run.name}: mIoU {shown(run.metrics['mIoU'], 3)}{run.over_classes}",
            color=colour,
        )
        for place, value, name in zip(places, values, classes, strict=True):
            if value is None and name in run.metrics["IoU"]:
                panel.text(0.005, place, "no pixels", va="center", fontsize=7, color=colour)
    panel.set_yticks(range(len(classes)), classes, fontsize=8)
    panel.set_xlim(0, 1)
    panel.set_ylim(-0.6, len(classes) - 0.4)
    panel.set_xlabel("IoU", fontsize=8)
    tidy(panel, axis="x")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


def draw_differences(compared: Sequence[Compared], colours: Mapping[str, str]) -> Any:
    """A figure of the difference of each figure in points, with its 95 % interval; the second runs' colours."""
    names = [name for name, _ in compared[0].rows()][::-1]
    figure = new_figure(8, 1.2 + len(names) * (0.14 + 0.12 * len(compared)))
    panel = figure.subplots()
    panel.axvline(0, color="grey", linewidth=1)
    for number, pair in enumerate(compared):
        colour = colours[pair.other.runs[0].name]
        for place, (_, values) in enumerate(pair.rows()[::-1]):
            height = place + 0.6 * ((len(compared) - 1) / 2 - number) / len(compared)
            difference, low, high = (None if value is None else 100 * value for value in values[2:])
            if difference is not None:
                panel.plot([difference], [height], "o", color=colour, markersize=4)
            if low is not None:
                panel.plot([low, high], [height, height], color=colour, linewidth=1.6)
        panel.plot([], [], color=colour, marker="o", markersize=4, label=f"{pair.second} - {pair.first}")
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_ylim(-0.6, len(names) - 0.4)
    panel.set_xlabel("difference in points, 95 % interval", fontsize=8)
    tidy(panel, axis="x")
    figure.legend(loc="outside upper center", ncols=1, fontsize=8, frameon=False)
    return figure


def draw_confusion(run: Run) -> Any:
    """A figure of confusion: which share of each true class's pixels is predicted as each class."""
    import numpy as np

    counts, classes = np.array(run.metrics["confusion_matrix"]), list(run.metrics["IoU"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(14.0, 3 + 0.35 * len(classes))
    figure = new_figure(side + 1, side)
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


def tidy(panel: Any, axis: str = "both") -> None:
    """Give a panel a faint grid, no frame at the top and at the right, and small numbers.

    Args:
        panel: of a figure.
        axis: which grid lines: ``x``, ``y`` or ``both``.
    """
    panel.grid(alpha=0.25, axis=axis)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.set_axisbelow(True)


def new_figure(width: float, height: float) -> Any:
    """An empty figure that needs no display.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
