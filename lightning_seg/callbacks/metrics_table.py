"""``metrics.csv``, which a resumed run goes on writing."""

import csv
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger


class MetricsTable(CSVLogger):
    """Lightning's CSV logger, but a run that is resumed keeps the rows before its checkpoint.

    Args:
        root: of all runs.
        name: of the config.
        version: of the run.
        resumed_step: optimiser steps that the checkpoint was saved after, or None for a new run.
    """

    def __init__(self, root: Path, name: str, version: str, resumed_step: int | None = None) -> None:
        super().__init__(root, name=name, version=version)
        self._kept = [] if resumed_step is None else _rows_before(Path(self.log_dir) / "metrics.csv", resumed_step)

    @property
    def experiment(self) -> Any:
        if self._experiment is not None:
            return self._experiment
        with warnings.catch_warnings():
            # The folder is this run's own: it holds config.yaml, and metrics.csv has been read.
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            experiment = super().experiment
        if self._experiment is not None:  # on the main process
            self._experiment.metrics.extend(self._kept)
        return experiment

    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: ``config.yaml`` holds them, and more."""


def _rows_before(path: Path, step: int) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if int(row["step"]) < step]
