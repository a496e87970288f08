"""Draws what the errors of runs cost."""

from collections.abc import Sequence
from typing import Any

from lightning_seg.plotting.figures import colours_of, new_figure, tidy
from lightning_seg.plotting.figures_file import PARTS
from lightning_seg.plotting.runs import Run

_PAIRS = 10
"""How many pairs of confused classes are drawn, the costliest of the first run."""


def draw_errors(runs: Sequence[Run]) -> Any:
    """A figure with the points of mIoU that each kind of error and the costliest confusions take, a colour a run."""
    known = [(run, colour) for run, colour in zip(runs, colours_of(runs), strict=True) if "errors" in run.metrics]
    costs = [_costs(run) for run, _ in known]
    pairs = [name for name in costs[0] if name not in PARTS.values()][:_PAIRS]
    figure = new_figure(8, 1.6 + (len(PARTS) + len(pairs)) * (0.14 + 0.16 * len(known)))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(len(PARTS), max(1, len(pairs))))
    height = 0.8 / len(known)
    for panel, names in ((above, [*PARTS.values()]), (below, pairs)):
        for number, ((run, colour), cost) in enumerate(zip(known, costs, strict=True)):
            places = [row + (number + 0.5 - len(known) / 2) * height for row in range(len(names))]
            points = [100 * cost.get(name, 0.0) for name in names]
            panel.barh(places, points, height, color=colour, label=run.name)
            for place, value in zip(places, points, strict=True):
                panel.text(max(value, 0), place, f" {value:.1f}", va="center", fontsize=7)
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        tidy(panel, axis="x")
    above.set_title("together: 1 − mIoU", fontsize=9, loc="left")
    below.set_title("of the classes confused, by pair", fontsize=9, loc="left")
    below.set_visible(bool(pairs))
    below.set_xlabel("points of mIoU that mending these pixels alone adds", fontsize=8)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


def _costs(run: Run) -> dict[str, float]:
    """Costs by name, the pairs from the costliest on."""
    errors = run.metrics["errors"]
    pairs = {f"{pair['true']} taken for {pair['predicted']}": pair["cost"] for pair in errors["confused_pairs"]}
    return {**{name: errors[part] for part, name in PARTS.items()}, **pairs}
