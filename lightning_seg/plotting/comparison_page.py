"""The part of the page that says which run is better."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from lightning_seg.plotting.comparison import Compared
from lightning_seg.plotting.differing import pictures_of
from lightning_seg.plotting.seeds import Side


def comparison_section(
    sides: Sequence[Side], compared: Sequence[Compared], refused: str, names: Mapping[str, str]
) -> str:
    """The part of the page: sentences, a table of intervals, and the images on which the runs differ most."""
    parts = [f"<p>{escape(str(side))}</p>" for side in sides if len(side.runs) > 1]
    if refused:
        parts.append(f"<p>Not compared: {escape(refused)}.</p>")
    for pair in compared:
        rows = ""
        for name, values in pair.rows():
            bold = "" if values[3] is None or values[3] <= 0 <= (values[4] or 0) else " top"
            shown = [_points(value, signed=place > 1) for place, value in enumerate(values)]
            span = "too few images" if values[3] is None else f"{shown[3]} to {shown[4]}"
            cells = "".join(f"<td class=number>{value}</td>" for value in shown[:2])
            rows += f"<tr><td>{escape(name)}</td>{cells}<td class='number{bold}'>{shown[2]}</td>"
            rows += f"<td class=number>{span}</td></tr>"
        heads = (
            f"<th>points</th><th>{_head(pair.one, names)}</th><th>{_head(pair.other, names)}</th><th>difference</th>"
        )
        parts.append(
            f"<p><b>{escape(str(pair))}.</b></p><div class=wide><table><thead><tr>{heads}<th>95 % over images</th></tr>"
            f"</thead><tbody>{rows}</tbody></table></div><h3>Images on which they differ most (own mIoU)</h3>"
            f"<div class=wide><table><thead><tr>{heads.replace('points', 'image')}</tr></thead><tbody>"
        )
        pictures, left_out = pictures_of([name for name, _, _ in pair.images], pair.one.runs[0], pair.other.runs[0])
        for image, one, other in pair.images:
            cells = "".join(
                f"<td class=number>{_points(value, signed=signed)}</td>"
                for value, signed in ((one, False), (other, False), (other - one, True))
            )
            seen = f"<br>{pictures[image]}" if image in pictures else ""
            parts.append(f"<tr><td>{escape(image)}{seen}</td>{cells}</tr>")
        parts.append(
            "</tbody></table></div>" + (f"<p>Pictures are left out: {escape(left_out)}.</p>" if left_out else "")
        )
    return f"<h2>Is one better?</h2>{''.join(parts)}" if parts else ""


def _head(side: Side, names: Mapping[str, str]) -> str:
    return names[side.runs[0].name] + (f" ({len(side.runs)} seeds)" if len(side.runs) > 1 else "")


def _points(value: float | None, signed: bool) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
