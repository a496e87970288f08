"""The one way in which a benchmark gives its figures to a program: ``--output FILE.json``."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``."""
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the figures too, as a JSON object")


def write_figures(path: Path | None, figures: Mapping[str, float]) -> None:
    """Write figures by name, if there is where to."""
    if path is not None:
        path.write_text(json.dumps({name: float(figure) for name, figure in figures.items()}, indent=1) + "\n")
