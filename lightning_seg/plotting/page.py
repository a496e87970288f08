"""Writes ``report.html``: results, settings that differ, and all pictures, in one file that fetches nothing."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lightning_seg.files import replacing
from lightning_seg.plotting.comparison import Compared
from lightning_seg.plotting.comparison_page import comparison_section
from lightning_seg.plotting.embedding import image, thumbnail
from lightning_seg.plotting.figures import colours_of
from lightning_seg.plotting.figures_file import AVERAGES, shown
from lightning_seg.plotting.folds import Folds
from lightning_seg.plotting.runs import Run, differing_settings
from lightning_seg.plotting.seeds import Side
from lightning_seg.plotting.slices import slices_section

OVERLAYS = 8
"""How many predicted images the page shows; the others are in the run folder."""

_TITLES = {
    "curves": ("Curves", "A ring marks the best val/mIoU of each training."),
    "classes": ("Classes", "The IoU of each class on the evaluated images; the mean over the classes is mIoU."),
    "errors": (
        "What the errors cost",
        "Each bar says how many points of mIoU it would add to mend all wrong pixels of one kind, and nothing else.",
    ),
    "calibration": (
        "Calibration",
        "How often pixels are right, by how sure the network is of them. Below the dashed line it is surer than it is "
        "right. ECE is the mean distance from that line; 0 is best.",
    ),
    "confusion": ("Confusion", "A row is a true class: which share of its pixels is predicted as each class."),
}
"""The heading of each picture, and what it shows."""

_STYLE = """
:root { color-scheme: light dark; --soft: color-mix(in srgb, currentColor 12%, transparent); }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .3rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid var(--soft); }
h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; } h1, h2, h3, p { overflow-wrap: anywhere; }
.hint { max-width: 46rem; opacity: .75; margin: .4rem 0 .8rem; }
.wide { overflow-x: auto; margin-bottom: 1rem; } table { border-collapse: collapse; }
th, td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--soft); text-align: left; vertical-align: top; }
thead th { border-bottom-width: 2px; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } .top { font-weight: 700; }
.settings td { font-family: ui-monospace, monospace; font-size: 13px; overflow-wrap: anywhere; min-width: 8rem; }
.settings td:first-child { white-space: nowrap; } .settings th { white-space: normal; overflow-wrap: anywhere; }
.chip { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .45rem; }
.run { white-space: nowrap; } small { opacity: .7; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
figure { display: inline-block; margin: .2rem .6rem .2rem 0; } figcaption { font-size: 13px; opacity: .7; }
.overlays td { padding: .3rem .6rem .6rem 0; border: 0; } .evaluated { min-width: 8.5rem; }
@media (max-width: 40rem) {
  h1 { font-size: 1.4rem; } th, td { padding-right: .7rem; } .figure img { max-width: none; width: 40rem; }
  .run, thead th { white-space: normal; overflow-wrap: anywhere; min-width: 4.5rem; } .run { min-width: 8rem; }
  .settings td:first-child { white-space: normal; }
}
"""


def write_page(
    path: Path,
    runs: Sequence[Run],
    figures: Mapping[str, bytes],
    folds: Folds | None = None,
    compared: Sequence[Compared] = (),
    refused: str = "",
    sides: Sequence[Side] = (),
) -> None:
    """Write the page.

    Args:
        path: of the file.
        runs: at least one.
        figures: PNG files by their names without suffix.
        folds: what the runs are of, if they are of a cross-validation.
        compared: pairs of runs.
        refused: why they are not compared; empty if they are, or if there is nothing to compare.
        sides: the evaluated runs by configuration.
    """
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    names = dict(zip((run.name for run in runs), map(_named, runs, colours_of(runs)), strict=True))
    body = [
        _results(runs, names),
        comparison_section(sides, compared, refused, names, figures.get("comparison")),
        _folds(folds),
        slices_section(runs, names),
        _settings(runs, names),
    ]
    for name, (heading, hint) in _TITLES.items():
        if name in figures:
            picture = f"<div class='wide figure'>{image(heading, figures[name])}</div>"
            body.append(f"<h2>{heading}</h2><p class=hint>{hint}</p>{picture}")
    body += [_grids(runs, names), _overlays(runs, names)]
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        '<meta name=viewport content="width=device-width"><style>'
        f"{_STYLE}</style><h1>{escape(title)}</h1>{''.join(body)}\n"
    )
    with replacing(path, synced=False) as file:
        file.write(text.encode(errors="replace"))  # a file name may be no valid text


def _results(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    """One row for each run: best and last validation, and the figures of its last evaluation; the highest are bold."""
    trained = any(run.best for run in runs)
    columns: dict[str, list[float | None]] = {
        "best": [run.best[1] if run.best else None for run in runs],
        "last": [run.last[1] if run.last else None for run in runs],
        **{name: [run.metrics.get(name) for run in runs] for name in AVERAGES},
    }
    highest = {
        name: max((value for value in values if value is not None), default=None) for name, values in columns.items()
    }
    numbers = [*(["best val/mIoU", "last val/mIoU"] if trained else []), "evaluated", *AVERAGES, "images"]
    rows = []
    for number, run in enumerate(runs):

        def figure(name: str, after: str = "", number: int = number) -> str:
            value = columns[name][number]
            top = " top" if len(runs) > 1 and value is not None and value == highest[name] else ""
            return f'<td class="number{top}">{shown(value)}{after}</td>'

        steps = [f" <small>step {point[0]}</small>" if point else "" for point in (run.best, run.last)]
        averages = [
            figure(name, escape(run.over_classes) if name == "mIoU" and run.metrics else "") for name in AVERAGES
        ]
        evaluated = f"{escape(run.metrics['split'])} <small>{escape(run.evaluated)}</small>" if run.metrics else "–"
        rows.append(
            f"<tr><td class=run>{names[run.name]}</td>"
            f"{figure('best', steps[0]) + figure('last', steps[1]) if trained else ''}"
            f"<td class=evaluated>{evaluated}</td>{''.join(averages)}"
            f"<td class=number>{run.metrics.get('num_images', '–')}</td></tr>"
        )
    cells = "<th>run</th>" + "".join(
        f"<th{'' if name == 'evaluated' else ' class=number'}>{name}</th>" for name in numbers
    )
    return f"<div class=wide><table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _folds(folds: Folds | None) -> str:
    if folds is None:
        return ""
    body = "".join(
        f"<tr><td>{escape(name)}</td><td class=number>{average}</td><td class=number>{span}</td></tr>"
        for name, average, span in folds.rows()
    )
    head = "<th>figure</th><th>mean ± standard deviation</th><th>lowest to highest</th>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<h2>Cross-validation</h2><p>{escape(folds.title)}</p><div class=wide>{table}</div>"


def _settings(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    """One row for each setting that differs between runs; empty if there is only one run."""
    known = [run for run in runs if run.settings is not None]
    lacking = "".join(f"<p>{names[run.name]} has no config.yaml.</p>" for run in runs if run.settings is None)
    if len(runs) == 1:
        return ""
    rows = differing_settings(known)
    if not rows:
        return f"<h2>Settings that differ</h2><p>None.</p>{lacking}"
    head = "".join(f"<th class=run>{names[run.name]}</th>" for run in known)
    body = "".join(
        f"<tr><td>{escape(key)}</td>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for key, values in rows.items()
    )
    return (
        "<h2>Settings that differ</h2><div class=wide><table class=settings>"
        f"<thead><tr><th>setting</th>{head}</tr></thead><tbody>{body}</tbody></table></div>{lacking}"
    )


def _grids(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    grids = [
        f"<h3>{names[run.name]}</h3>{image(f'predictions of {run.name}', run.grid.read_bytes())}"
        for run in runs
        if run.grid is not None
    ]
    return f"<h2>Evaluated images</h2>{''.join(grids)}" if grids else ""


def _overlays(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    """The overlays that ``predict`` wrote of the same images, side by side; images that most runs have come first."""
    held = [(run, run.overlays) for run in runs]
    held = [(run, files) for run, files in held if files]
    if not held:
        return ""
    images = sorted({name for _, files in held for name in files})
    images.sort(key=lambda name: -sum(name in files for _, files in held))
    head = "".join(f"<th class=run>{names[run.name]}</th>" for run, _ in held)
    rows = ""
    for name in images[:OVERLAYS]:
        cells = "".join(f"<td>{thumbnail(name, files[name]) if name in files else ''}</td>" for _, files in held)
        rows += f"<tr><td><small>{escape(name)}</small></td>{cells}</tr>"
    more = f"<p>{len(images) - OVERLAYS} more are in the run folders.</p>" if len(images) > OVERLAYS else ""
    return (
        f"<h2>Predicted images</h2><div class=wide><table class=overlays><thead><tr><th>image</th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{more}"
    )


def _named(run: Run, colour: str) -> str:
    return f'<span class=chip style="background:{colour}"></span>{escape(run.name).replace("/", "/<wbr>")}'
