"""Writes ``metrics.csv``; a resumed run goes on in the same table."""

import csv
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from lightning_seg.errors import ConfigError
from lightning_seg.files import naming_full_disk, replacing


class MetricsTable(CSVLogger):
    """Lightning's CSV logger, but a resumed run keeps the rows from before its checkpoint.

    Each row is written when it is logged. A kill can tear the last row, and no other.

    Args:
        root: of all runs.
        name: of the config.
        version: of the run.
        resumed_step: optimiser steps that the checkpoint was saved after, or None for a new run.
    """

    def __init__(self, root: Path, name: str, version: str, resumed_step: int | None = None) -> None:
        super().__init__(root, name=name, version=version)
        self._resumed_step = resumed_step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
            if self._resumed_step is not None:
                self._experiment.cut(self._resumed_step)
        return self._experiment

    def log_hyperparams(self, params: Any = None) -> None:
        """Do nothing: ``config.yaml`` holds them, and more."""


class _Writer(ExperimentWriter):
    """Appends rows; for a new column, it writes the whole table to a new file that replaces the old one."""

    _last_kept: int | None = None
    """The last step whose rows from before the checkpoint are kept."""

    def cut(self, step: int) -> None:
        """Remove a torn row and the rows from ``step`` on, which the resumed run logs again.

        Raises:
            ConfigError: if the table is damaged otherwise.
        """
        path = Path(self.metrics_file_path)
        if path.is_file():
            try:
                self.metrics_keys, rows = _read(path)
                kept = [row for row in rows if int(row["step"]) < step]
            except (KeyError, TypeError, ValueError, csv.Error) as error:
                raise ConfigError(
                    f"{path} is damaged ({type(error).__name__}: {error}), and the run goes on in it: mend it, or move "
                    "it away to begin a new one"
                ) from None
            self._replace(self.metrics_keys, kept)
            self._last_kept = step - 1

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        """Add a row. If the resumed run repeats a validation, its figures replace the earlier ones."""
        if step is not None and step == self._last_kept:
            names = [name for name in metrics_dict if name != "epoch"]
            keys, rows = _read(Path(self.metrics_file_path))
            kept = [row for row in rows if int(row["step"]) != step or not any(row.get(name) for name in names)]
            if len(kept) < len(rows):
                self._replace(keys, kept)
        super().log_metrics(metrics_dict, step)

    def save(self) -> None:
        with naming_full_disk(Path(self.metrics_file_path)):
            super().save()

    def _check_log_dir_exists(self) -> None:
        """Do nothing: Lightning would warn of the run's own files, and delete the rows to keep."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._replace(fieldnames, _read(Path(self.metrics_file_path))[1])

    def _replace(self, fieldnames: list[str], rows: list[dict[str, Any]]) -> None:
        with replacing(Path(self.metrics_file_path), "w") as file:
            writer = csv.DictWriter(file, fieldnames)
            writer.writeheader()
            writer.writerows(rows)


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and the whole rows of a table."""
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(lines)
    rows = list(reader)
    return list(reader.fieldnames or []), rows
