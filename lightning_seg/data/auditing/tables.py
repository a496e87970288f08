"""Writes the figures of an audit as tables and bars in HTML."""

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from lightning_seg.colours import show_colour
from lightning_seg.data.auditing.audit import Audit
from lightning_seg.data.auditing.lines import VALUE_TITLES, table_of_bands
from lightning_seg.data.auditing.pictures import foreign_colour
from lightning_seg.data.auditing.seen import SeenLabel

SIZES = 12
"""How many different sizes are listed; more are counted in bins."""

BINS = 12
"""Bins of a histogram; there is one more if the first bin begins below the shortest length."""

LABELS = 24
"""How many stored values are listed."""


def class_table(audit: Audit) -> str:
    """Pixels and images of each class in each split."""
    splits = audit.splits
    totals = {split: max(1, int(figures.class_pixels.sum())) for split, figures in splits.items()}
    largest = max(
        (int(pixels) / totals[split] for split, figures in splits.items() for pixels in figures.class_pixels), default=1
    )
    head = "".join(f'<th colspan="2">{split}, of pixels</th><th class="number">images</th>' for split in splits)
    rows = []
    for index, name in enumerate(audit.info.names):
        cells = [f"<td>{_swatch(show_colour(audit.info.palette[index]))} {escape(name)}</td>"]
        for split, figures in splits.items():
            share = int(figures.class_pixels[index]) / totals[split]
            cells.append(
                f'<td>{_bar(share / (largest or 1))}</td><td class="number">{share:.2%}</td>'
                f'<td class="number">{figures.class_images[index]}</td>'
            )
        cells.append(f'<td class="number">{audit.weights[index]:g}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><tr><th>class</th>{head}<th class="number">weight</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def label_tables(audit: Audit) -> Iterator[str]:
    """What the mask files store, and what it stands for."""
    if not any(audit.labels.values()):
        return
    yield "<h2>Values seen in the masks</h2>"
    for split, labels in audit.labels.items():
        total = max(1, sum(label.pixels for label in labels))
        rows = "".join(
            f"<tr><td>{_stored(label)}</td><td>{escape(label.meaning)}</td><td>{_bar(label.pixels / total)}</td>"
            f'<td class="number">{label.pixels / total:.2%}</td></tr>'
            for label in labels[:LABELS]
        )
        more = f"<p>and {len(labels) - LABELS} more in audit.json</p>" if len(labels) > LABELS else ""
        yield (
            f"<h3>{split}</h3><table><tr><th>stored</th><th>stands for</th><th></th>"
            f'<th class="number">of pixels</th></tr>{rows}</table>{more}'
        )


def _stored(label: SeenLabel) -> str:
    """A value, or the text of a colour beside the colour itself."""
    is_colour = label.stored.startswith("#")
    return f"{_swatch(label.stored)} {label.stored}" if is_colour else label.stored


def size_histogram(split: str, sizes: Counter[tuple[int, int]]) -> str:
    """Show how many images have each size; many sizes are counted in bins of widths and heights."""
    if len(sizes) <= SIZES:
        rows = [(f"{width}×{height}", count) for (height, width), count in sizes.most_common()]
        return f"<h3>{split}</h3>{_histogram(rows)}"
    often = ", ".join(f"{width}×{height} ({count})" for (height, width), count in sizes.most_common(3) if count > 1)
    sides = "".join(
        f'<div class="side">{_histogram(in_bins(lengths), caption)}</div>'
        for caption, lengths in (
            ("width", [width for _, width in sizes.elements()]),
            ("height", [height for height, _ in sizes.elements()]),
        )
    )
    note = f"{len(sizes)} different sizes{f'; most often {often}' if often else ''}"
    return f"<h3>{split}</h3><p>{note}</p>{sides}"


def in_bins(lengths: Sequence[int]) -> list[tuple[str, int]]:
    """Count lengths in bins of one round width, with empty ones in between.

    >>> in_bins([320, 333, 359, 640, 641])
    [('300-349', 2), ('350-399', 1), ('400-449', 0), ('450-499', 0), ('500-549', 0), ('550-599', 0), ('600-649', 2)]
    """
    least, spread = min(lengths), max(lengths) - min(lengths)
    width = next(step * 10**power for power in range(9) for step in (1, 2, 5) if spread < BINS * step * 10**power)
    counts = Counter(length // width for length in lengths)
    return [
        (str(place) if width == 1 else f"{place * width}-{place * width + width - 1}", counts[place])
        for place in range(least // width, max(counts) + 1)
    ]


def _histogram(rows: Sequence[tuple[str, int]], caption: str = "") -> str:
    largest = max((count for _, count in rows), default=1)
    body = "".join(
        f'<tr><td class="number">{name}</td><td>{_bar(count / largest)}</td><td class="number">{count}</td></tr>'
        for name, count in rows
    )
    return f"<table>{f'<caption>{caption}</caption>' if caption else ''}{body}</table>"


def pixel_tables(audit: Audit) -> Iterator[str]:
    """The values of each band in each split, and the pixels that are no class."""
    for split, figures in audit.splits.items():
        if (pixels := figures.usual_pixels) is None:
            continue
        head = "".join(f'<th class="number">{title}</th>' for title in VALUE_TITLES)
        rows = "".join(
            f"<tr><td>{name}</td>{_cells(values)}</tr>" for name, *values in table_of_bands(pixels, audit.bands)
        )
        yield (
            f'<h3>{split}, {pixels.type}</h3><div class="wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'
            f"<p>{figures.ignored_pixels} pixels are ignored, {figures.unknown_pixels} have no meaning.</p>"
        )


def _cells(values: Sequence[str]) -> str:
    return "".join(f'<td class="number">{value}</td>' for value in values)


def colour_legend(audit: Audit) -> str:
    """Explain the colours of the pictures."""
    names = "".join(
        f"<span>{_swatch(show_colour(colour))} {escape(name)}</span> "
        for name, colour in zip(audit.info.names, audit.info.palette, strict=True)
    )
    names += f"<span>{_swatch(show_colour(audit.info.ignore_colour))} ignored</span> "
    names += f"<span>{_swatch(show_colour(foreign_colour(audit.info)))} without a meaning</span>"
    return f'<p class="legend">{names}</p>'


def _swatch(colour: str) -> str:
    return f'<span class="swatch" style="background:{colour}"></span>'


def _bar(fraction: float) -> str:
    return f'<span class="bar"><i style="width:{100 * fraction:.2f}%"></i></span>'
