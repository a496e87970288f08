"""What sections are given and what they yield."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Settings:
    """What a section is run with.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: small networks, images and numbers of steps, which show that all runs and nothing else.
        folder: where the made-up images are.
        camvid: the folder of CamVid, or None.
        until: ``time.monotonic()``, which all processes share, when the section should end.
    """

    device: str
    tiny: bool
    folder: Path
    camvid: Path | None
    until: float

    @property
    def left(self) -> float:
        """Seconds until the section should end."""
        return self.until - time.monotonic()


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured.
        here: this project's figure, in ``unit``.
        peer: what it is compared with, in the same unit.
        ratio: of the two, the larger the better, or a share.
        goal: what the ratio should be, at least, or at most where ``at_most``; None: it is only said.
        at_most: whether the goal is an upper bound.
        unit: of ``here`` and ``peer``.
        failed: something is wrong, whatever the goal says.
        no_time: it was not measured, or not all of it, for lack of time; nothing is wrong with it.
        note: what else there is to say.
    """

    what: str
    here: float | None = None
    peer: float | None = None
    ratio: float | None = None
    goal: float | None = None
    at_most: bool = False
    unit: str = ""
    failed: bool = False
    no_time: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``MISSED``, ``FAILED``, ``NO TIME`` or nothing to judge."""
        if self.failed:
            return "FAILED"
        if self.no_time:
            return "NO TIME"
        if self.goal is None or self.ratio is None:
            return ""
        return "ok" if (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal) else "MISSED"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}

    @staticmethod
    def from_json(row: dict[str, Any]) -> "Row":
        return Row(**{name: value for name, value in row.items() if name != "verdict"})


def print_table(title: str, rows: list[Row]) -> None:
    """Columns that fit a terminal of 120, notes below their row."""
    print(f"\n== {title}\n{'':58s} {'here':>9s} {'peer':>9s} {'unit':9s} {'ratio':>7s} {'goal':>7s}")
    for row in rows:
        goal = "" if row.goal is None else f"{'≤' if row.at_most else '≥'} {row.goal:g}"
        print(
            f"{row.what[:58]:58s} {_number(row.here):>9s} {_number(row.peer):>9s} {row.unit:9s} "
            f"{_number(row.ratio):>7s} {goal:>7s} {row.verdict}"
        )
        for line in row.note.splitlines():
            print(f"    {line}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str, repetitions: int = 1) -> float:
    """Of one call, with all that it gave the device to do."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    synchronise(device)
    return (time.perf_counter() - start) / repetitions


def peak_gib(work: Callable[[], object], device: str) -> float | None:
    """The most that a GPU's tensors take up beyond what is there already; None on a CPU."""
    if device != "cuda":
        work()
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30
