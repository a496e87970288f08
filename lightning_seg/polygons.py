"""Regions of a label map as polygons: ``python -m lightning_seg.polygons LABELS OUTPUT [--simplify PIXELS]``.

A region is all pixels of one class that touch each other by their sides.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import LightningSegError
from lightning_seg.files import use_utf8


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; an error is one line and ends it with status 1."""
    use_utf8()
    parser = argparse.ArgumentParser(
        prog="python -m lightning_seg.polygons", description="Trace regions of a label map."
    )
    parser.add_argument(
        "labels", type=Path, metavar="LABELS", help="label map that predict wrote, or any other of one band"
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="file that ends in .gpkg or .geojson")
    parser.add_argument(
        "--simplify", type=float, default=0.0, metavar="PIXELS", help="how far outlines may move; by default not at all"
    )
    given = parser.parse_args(args)
    try:
        from lightning_seg.geo.tracing import polygons_of

        count = polygons_of(given.labels, given.output, given.simplify)
    except LightningSegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"{given.output}: {count} polygons")


if __name__ == "__main__":
    main()
