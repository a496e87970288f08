"""The part of the page that says which run is better."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from lightning_seg.plotting.comparison import Compared
from lightning_seg.plotting.differing import pictures_of
from lightning_seg.plotting.embedding import image
from lightning_seg.plotting.seeds import Side

_HINT = (
    "Points are hundredths of IoU. The intervals hold 95 % of what other images of this kind would give; where it says "
    "so, what other seeds of the training would. A difference is bold, and counts, if its interval does not hold zero."
)


def comparison_section(
    sides: Sequence[Side],
    compared: Sequence[Compared],
    refused: str,
    names: Mapping[str, str],
    picture: bytes | None = None,
) -> str:
    """The part of the page: sentences, a picture, tables of intervals, and the images on which the runs differ most.

    Args:
        sides: the evaluated runs by configuration.
        compared: pairs of them.
        refused: why they are not compared.
        names: of the runs, as HTML.
        picture: of all differences, a PNG file.
    """
    parts = [f"<p>{escape(str(side))}</p>" for side in sides if len(side.runs) > 1]
    if refused:
        parts.append(f"<p>Not compared: {escape(refused)}.</p>")
    parts += [f"<p><b>{escape(str(pair))}.</b></p>" for pair in compared]
    if compared:
        parts.append(f"<p class=hint>{_HINT}</p>")
    if picture is not None:
        parts.append(f"<div class='wide figure'>{image('differences with their intervals', picture)}</div>")
    for pair in compared:
        rows = ""
        for name, values in pair.rows():
            bold = "" if values[3] is None or values[3] <= 0 <= (values[4] or 0) else " top"
            shown = [_points(value, signed=place > 1) for place, value in enumerate(values)]
            span = "too few images" if values[3] is None else f"{shown[3]} to {shown[4]}"
            cells = "".join(f"<td class=number>{value}</td>" for value in shown[:2])
            rows += f"<tr><td>{escape(name)}</td>{cells}<td class='number{bold}'>{shown[2]}</td>"
            rows += f"<td class=number>{span}</td></tr>"
            if name == "mIoU" and pair.over_seeds is not None:
                ends = [_points(end, signed=True) for end in pair.over_seeds]
                rows += f"<tr><td>mIoU, over seeds</td>{cells}<td class=number>{shown[2]}</td>"
                rows += f"<td class=number>{ends[0]} to {ends[1]}</td></tr>"
        columns = (_head(pair.one, names), _head(pair.other, names), "difference")
        heads = "".join(f"<th class=number>{column}</th>" for column in columns)
        parts.append(
            f"<h3>{escape(pair.second)} against {escape(pair.first)}</h3>"
            f"<div class=wide><table><thead><tr><th>points</th>{heads}<th class=number>95 % interval</th></tr>"
            f"</thead><tbody>{rows}</tbody></table></div><h3>Images on which they differ most</h3>"
            f"<p class=hint>The mIoU of each image alone, in points.</p>"
            f"<div class=wide><table><thead><tr><th>image</th>{heads}</tr></thead><tbody>"
        )
        pictures, left_out = pictures_of([name for name, _, _ in pair.images], pair.one.runs[0], pair.other.runs[0])
        for name, one, other in pair.images:
            cells = "".join(
                f"<td class=number>{_points(value, signed=signed)}</td>"
                for value, signed in ((one, False), (other, False), (other - one, True))
            )
            seen = f"<br>{pictures[name]}" if name in pictures else ""
            parts.append(f"<tr><td>{escape(name)}{seen}</td>{cells}</tr>")
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
