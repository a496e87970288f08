"""Draws how often a network is right when it is so sure."""

from collections.abc import Sequence
from typing import Any

from lightning_seg.plotting.figures import colours_of, new_figure, tidy
from lightning_seg.plotting.figures_file import shown
from lightning_seg.plotting.runs import Run


def draw_calibration(runs: Sequence[Run]) -> Any:
    """A figure with accuracy over confidence, one line for each run that counted them; the diagonal is best.

    Args:
        runs: of which at least one has ``calibration`` among its figures.
    """
    figure = new_figure(8, 6.4)
    curve, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot((0, 1), (0, 1), color="grey", linewidth=1, linestyle="--", label="as sure as right")
    for run, colour in zip(runs, colours_of(runs), strict=True):
        if "calibration" not in run.metrics:
            continue
        found = run.metrics["calibration"]
        bins = [one for one in found["bins"] if one["count"]]
        total = max(1, sum(one["count"] for one in bins))
        sure = [one["confidence"] for one in bins]
        label = f"{run.name}: ECE {shown(found['ECE'])}"
        if found.get("temperature", 1) != 1:
            label += f" at temperature {found['temperature']:.4f}"
        curve.plot(sure, [one["accuracy"] for one in bins], color=colour, marker="o", markersize=4, label=label)
        share.plot(sure, [one["count"] / total for one in bins], color=colour, marker="o", markersize=4)
    curve.set_ylabel("accuracy")
    share.set_ylabel("share of pixels")
    share.set_xlabel("confidence: probability of the predicted class")
    share.set_xlim(0, 1)
    for panel in (curve, share):
        panel.set_ylim(0, 1)
        tidy(panel)
    curve.legend(fontsize=8, frameon=False)
    return figure
