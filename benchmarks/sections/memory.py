"""Resident memory of this process, as Linux counts it."""

import re
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident(field: str = "VmRSS") -> int:
    """Bytes now, or at the peak (``VmHWM``)."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])


def forget_peak() -> None:
    """Let the peak begin anew, at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
