"""What a run has written."""

import csv
from collections.abc import Callable
from pathlib import Path

Experiment = Callable[..., Path]


def logged(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
