"""Shows figures by the values of a column as tables, the lowest first."""

from collections.abc import Mapping, Sequence
from html import escape

from lightning_seg.plotting.runs import Run

MOST = 30
"""Values of a column that the page shows at the most; ``metrics.json`` has all."""


def slices_section(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    """A table for each run and column, the values with the lowest mIoU first; empty where no run has slices.

    Args:
        runs: of the page.
        names: of the runs, as HTML.
    """
    body = ""
    for run in runs:
        for column, values in run.metrics.get("slices", {}).items():
            ranked = sorted(values.items(), key=lambda pair: (pair[1]["mIoU"] is None, pair[1]["mIoU"] or 0.0))
            rows = "".join(
                f"<tr><td>{escape(value)}</td>"
                + "".join(
                    f"<td class=number>{'–' if found[name] is None else format(found[name], '.4f')}</td>"
                    for name in ("mIoU", "pAcc", "fwIoU")
                )
                + f"<td class=number>{found['images']}</td></tr>"
                for value, found in ranked[:MOST]
            )
            more = f"<p>{len(ranked) - MOST} more are in metrics.json.</p>" if len(ranked) > MOST else ""
            head = "".join(f"<th>{escape(name)}</th>" for name in (column, "mIoU", "pAcc", "fwIoU", "images"))
            body += f"<h3>{names[run.name]}</h3><div class=wide><table><thead><tr>{head}</tr></thead>"
            body += f"<tbody>{rows}</tbody></table></div>{more}"
    return f"<h2>Slices</h2>{body}" if body else ""
