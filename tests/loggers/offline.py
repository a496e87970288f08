"""Reads what W&B wrote without a network: its own transaction log, not a mock of it."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

LOGGER = ["--trainer.logger", "pytorch_lightning.loggers.WandbLogger", "--trainer.logger.project", "p"]

_BLOCK = 32 * 1024

_PATIENCE = 60.0
"""Seconds: W&B's process may get little of a busy machine."""


class OfflineRun:
    """One ``.wandb`` file and the folder that it lies in."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.media = file.parent / "files" / "media"
        self.records = [Record.FromString(data) for data in _records(file.read_bytes())]
        # Of a file that is only begun, an empty one.
        start = next((record.run for record in self.records if record.HasField("run")), Record().run)
        self.run_id, self.project, self.name = start.run_id, start.project, start.display_name
        self.config: dict[str, Any] = {}
        for record in self.records:
            updates = record.run.config.update if record.HasField("run") else record.config.update
            for item in updates:
                _set(self.config, item)

    @property
    def history(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for record in self.records:
            if record.HasField("history"):
                rows.append({})
                for item in record.history.item:
                    _set(rows[-1], item)
        return rows

    def rows(self, name: str) -> list[tuple[int, Any]]:
        """(``trainer/global_step``, value) wherever a name was logged."""
        return [(row["trainer/global_step"], row[name]) for row in self.history if name in row]

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``define_metric`` said, by name."""
        found = (record.metric for record in self.records if record.HasField("metric"))
        return {metric.name or metric.glob_name: metric for metric in found}

    @property
    def artifacts(self) -> list[Any]:
        return [record.artifact for record in self.records if record.HasField("artifact")]

    @property
    def ended(self) -> bool:
        return any(record.HasField("exit") for record in self.records)


def _set(target: dict[str, Any], item: Any) -> None:
    *outer, last = [item.key] if item.key else item.nested_key
    for key in outer:
        target = target.setdefault(key, {})
    target[last] = json.loads(item.value_json)


def offline_runs(folder: Path, ended: bool = True) -> list[OfflineRun]:
    """All below a folder, oldest first; W&B's own process may still be writing the end of the last one."""
    given_up = time.monotonic() + _PATIENCE
    while True:
        files = sorted(folder.rglob("run-*.wandb"), key=lambda file: file.stat().st_mtime_ns)
        runs = [OfflineRun(file) for file in files]
        if not ended or all(run.ended for run in runs) or time.monotonic() > given_up:
            return runs
        time.sleep(0.2)


def _records(data: bytes) -> Iterator[bytes]:
    """The log's records: LevelDB's format, in blocks of 32 KiB, after a header of 7 bytes."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        if _BLOCK - position % _BLOCK < 7:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if kind == 0:
            return
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
