"""Writes ``audit.html``: one file without scripts, links or anything to fetch."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from lightning_seg.data.archives.places import is_file, located
from lightning_seg.data.auditing.audit import Audit
from lightning_seg.data.auditing.pictures import picture
from lightning_seg.data.auditing.statistics import WEIGHT_FORMULA
from lightning_seg.data.auditing.tables import class_table, colour_legend, label_tables, pixel_tables, size_histogram
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.listing.defects import MEANINGS, Defect
from lightning_seg.data.listing.splits import Listing
from lightning_seg.structures import Sample

SAMPLES = 6
"""How many pictures of each split are shown."""

THUMBNAILS = 24
"""How many defects of each kind have a picture; the others are listed without one."""

LISTED = 1000
"""How many defects of each kind are listed; ``audit.json`` has all."""

_STYLE = """
:root { color-scheme: light dark; --soft: color-mix(in srgb, currentColor 12%, transparent); }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--soft); }
table { border-collapse: collapse; } th, td { padding: .15rem .7rem .15rem 0; text-align: left; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; width: 9rem; background: var(--soft); height: .8rem; vertical-align: middle; }
.bar i { display: block; height: 100%; background: #4a7fb5; }
.swatch { display: inline-block; width: .9rem; height: .9rem; vertical-align: -2px; border: 1px solid #8888; }
.legend > span { margin-right: 1rem; white-space: nowrap; }
.wide { overflow-x: auto; }
figure { display: inline-block; margin: .3rem .8rem .6rem 0; vertical-align: top; max-width: 100%; }
figcaption { font-size: 12px; overflow-wrap: anywhere; max-width: 340px; } figure img { max-width: 100%; }
.defect { display: flex; gap: 1rem; align-items: flex-start; padding: .4rem 0; border-top: 1px solid var(--soft); }
.defect img { flex: none; max-width: 45%; } .defect code { overflow-wrap: anywhere; font-weight: 600; }
.defect p { margin: .2rem 0 0; overflow-wrap: anywhere; } .defect div { min-width: 0; }
.side { display: inline-block; margin-right: 3rem; vertical-align: top; } caption { text-align: left; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
.clean { color: #2e7d32; } .bad { color: #c62828; }
"""

_OF_FILES = ("orphan_image", "orphan_mask", "lossy_mask", "unreadable", "unfit")
"""Kinds of defects whose path may be a file that belongs to no sample."""


def write_page(path: Path, name: str, audit: Audit, listings: Mapping[str, Listing], weights: str) -> None:
    """Write the page.

    Args:
        path: of the file.
        name: of the config.
        audit: what was found.
        listings: the samples, for pictures.
        weights: text to paste into a config.
    """
    count = len(audit.defects)
    verdict = f'<b class="bad">{count} defect{"s" * (count > 1)}</b>' if count else '<b class="clean">no defect</b>'
    images = ", ".join(f"{split}: {figures.images} images" for split, figures in audit.splits.items())
    parts = [
        f"<h1>Audit of {escape(name)}</h1><p>{images}; {verdict}</p>",
        *_defects(audit.defects, listings),
        "<h2>Classes</h2>",
        class_table(audit),
        f"<p>Class weights: {escape(WEIGHT_FORMULA)}.</p><pre>{escape(weights)}</pre>",
        *label_tables(audit),
        "<h2>Image sizes</h2>",
        *(size_histogram(split, figures.sizes) for split, figures in audit.splits.items()),
        "<h2>Pixels</h2>",
        *pixel_tables(audit),
        *(f"<pre>{escape(text)}</pre>" for text in audit.advice),
        "<h2>Samples</h2>",
        colour_legend(audit),
        *_samples(audit, listings),
    ]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Audit of {escape(name)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    path.write_text(text, encoding="utf-8", errors="replace")  # names of files may be no text


def _samples(audit: Audit, listings: Mapping[str, Listing]) -> Iterator[str]:
    bad = {defect.path for defect in audit.defects}
    for split, listing in listings.items():
        good = [sample for sample in listing.samples if not {str(sample.image), str(sample.mask)} & bad]
        chosen = good[:: max(1, len(good) // SAMPLES)][:SAMPLES]
        shown = ((sample, picture(sample, listing.table_of(sample), listing.rules)) for sample in chosen)
        figures = "".join(
            f'<figure><img alt="" src="{source}"><figcaption>{escape(sample.name)}</figcaption></figure>'
            for sample, source in shown
            if source
        )
        yield f"<h3>{split}</h3>{figures}"


def _defects(defects: Sequence[Defect], listings: Mapping[str, Listing]) -> Iterator[str]:
    owners: dict[tuple[str, str], tuple[Sample, LabelTable]] = {}
    if defects:
        for split, listing in listings.items():
            for sample in listing.samples:
                owners[split, str(sample.image)] = owners[split, str(sample.mask)] = (
                    sample,
                    listing.table_of(sample),
                )
        yield "<h2>Defects</h2>"
    for kind, group in groupby(defects, key=lambda defect: defect.kind):
        members = list(group)
        yield f"<h3>{kind} ({len(members)})</h3><p>{escape(MEANINGS[kind])}.</p>"
        for number, defect in enumerate(members[:LISTED]):
            source = None
            if number < THUMBNAILS:
                source = _thumbnail(defect, owners.get((defect.split, defect.path)), listings)
            image = f'<img alt="" src="{source}">' if source else ""
            remedy = f"<pre>{escape(chr(10).join(defect.remedy))}</pre>" if defect.remedy else ""
            yield (
                f'<div class="defect">{image}<div><code>{escape(defect.path)}</code> ({defect.split})'
                f"<p>{escape(defect.detail)}</p>{remedy}</div></div>"
            )
        if len(members) > LISTED:
            yield f"<p>and {len(members) - LISTED} more in audit.json</p>"


def _thumbnail(defect: Defect, owner: tuple[Sample, LabelTable] | None, listings: Mapping[str, Listing]) -> str | None:
    """Draw the sample that has a defect, or the file, if it belongs to no sample."""
    if owner is None:
        path = Path(defect.path)
        if not is_file(path) or defect.kind not in _OF_FILES:
            return None
        table = listings[defect.split].tables[0]
        as_mask = defect.kind == "orphan_mask"
        owner = (Sample(defect.path, Path() if as_mask else located(path), located(path) if as_mask else None), table)
    return picture(*owner, listings[defect.split].rules)
