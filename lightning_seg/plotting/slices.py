"""Shows figures by the values of a column as tables, the lowest first."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lightning_seg.plotting.figures_file import shown
from lightning_seg.plotting.runs import Run

MOST = 30
"""Values of a column that the page shows at the most; ``metrics.json`` has all."""

_HINT = (
    "Figures of the images that have a value, the lowest mIoU first. mIoU is over the classes that these images have: "
    "do not compare slices by it alone where they lack classes."
)


def slices_section(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    """A table for each column, with the mIoU of each run, or more figures of a single one; empty without slices.

    Args:
        runs: of the page.
        names: of the runs, as HTML.
    """
    sliced = [run for run in runs if run.metrics.get("slices")]
    columns = dict.fromkeys(column for run in sliced for column in run.metrics["slices"])
    body = "".join(
        _table(
            column,
            {run.name: run.metrics["slices"][column] for run in sliced if column in run.metrics["slices"]},
            names,
        )
        for column in columns
    )
    return f"<h2>Slices</h2><p class=hint>{_HINT}</p>{body}" if body else ""


def _table(column: str, found: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Mapping[str, str]) -> str:
    """One column: a row for each value.

    Args:
        column: its name.
        found: by run and value.
        names: of the runs, as HTML.
    """
    lowest: dict[str, float] = {}
    for values in found.values():
        for value, of_value in values.items():
            lowest.setdefault(value, float("inf") if of_value["mIoU"] is None else of_value["mIoU"])
    ranked = sorted(lowest, key=lambda value: lowest[value])
    several = len(found) > 1
    figures = ("mIoU",) if several else ("mIoU", "pAcc", "fwIoU")
    heads = [f"mIoU<br>{names[run]}" for run in found] if several else figures
    rows = ""
    for value in ranked[:MOST]:
        cells = [shown(values.get(value, {}).get(name)) for values in found.values() for name in figures]
        counts = dict.fromkeys(str(values[value]["images"]) for values in found.values() if value in values)
        rows += f"<tr><td>{escape(value)}</td>"
        rows += "".join(f"<td class=number>{cell}</td>" for cell in (*cells, " / ".join(counts))) + "</tr>"
    head = "".join(f"<th class=number>{name}</th>" for name in (*heads, "images"))
    more = f"<p>{len(ranked) - MOST} more are in metrics.json.</p>" if len(ranked) > MOST else ""
    return (
        f"<div class=wide><table><thead><tr><th>{escape(column)}</th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{more}"
    )
