"""Correct on CUDA: the tests of ``tests/gpu``, each of which says something there."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from sections.table import Row, Settings

REPOSITORY = Path(__file__).parents[2]
COLLECTED = re.compile(r"collected (\d+) items?")
RESULT = re.compile(r"^tests/gpu/\S*::(?P<name>.*?) (?P<outcome>PASSED|FAILED|ERROR|SKIPPED)")
SKIPPED = re.compile(r"SKIPPED \[\d+\] \S+: (?P<reason>.*)")


def run(settings: Settings) -> Iterator[Row]:
    """A row for each failed test, one for all that ran, and one for those that did not, which are no failures.

    Each file of tests has a process of its own, all at once: what they wait for is starting, compiling and the CPU.
    """
    files = sorted(path.name for path in (REPOSITORY / "tests/gpu").glob("test_*.py"))
    everything = [_File(name, settings.device) for name in files]
    for file in everything:
        file.wait(settings.left)
    if log := os.environ.get("LIGHTNING_SEG_PYTEST_LOG"):  # to mend failures without a second run
        Path(log).write_text("".join(line for file in everything for line in file.lines))
    for file in everything:
        yield from file.failures()
    outcomes = [outcome for file in everything for _, outcome in file.results]
    passed, skipped = outcomes.count("PASSED"), outcomes.count("SKIPPED")
    ran = len(outcomes) - skipped
    reasons = sorted({reason for file in everything for reason in file.reasons})
    note = f"{skipped} skipped" + (f": {'; '.join(reasons)}" if reasons else "")
    yield Row("tests that pass", passed, ran, passed / max(1, ran), 1.0 if ran else None, unit="tests", note=note)
    stopped = [file for file in everything if not file.ended]
    if stopped:
        expected = sum(file.collected or 0 for file in everything)
        yield Row(
            "tests not run for lack of time", sum(file.missing for file in stopped), expected, unit="tests",
            no_time=True, note="\n".join(file.where for file in stopped),
        )  # fmt: skip


class _File:
    """A file's tests in a process, whose lines are read as they come.

    Attributes:
        lines: that pytest wrote.
        ended: whether it ended by itself.
        collected: how many tests there are; None: it did not come so far.
        results: name and outcome of each test that ran.
        reasons: why tests were skipped.
    """

    def __init__(self, name: str, device: str) -> None:
        self.name = name
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        if device == "cpu":
            environment["LIGHTNING_SEG_GPU_TESTS"] = "cpu"
        options = ["-v", "--tb=short", "-rs", "--durations=5", "-p", "no:cacheprovider", "-o", "addopts="]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", f"tests/gpu/{name}", *options],
            cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self.lines.extend, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> None:
        """Let it run for so long at most: a test that hangs is named and takes no other file with it."""
        self._reader.join(max(0.0, seconds))
        self.ended = not self._reader.is_alive()
        self._process.kill()
        self._process.wait()
        self._reader.join(5)  # a compiler's process may outlive it, and hold the pipe
        found = (RESULT.match(line) for line in self.lines)
        self.results = [(result["name"], result["outcome"]) for result in found if result]
        self.reasons = [reason["reason"] for line in self.lines if (reason := SKIPPED.match(line))]
        counts = [int(count[1]) for line in self.lines if (count := COLLECTED.search(line))]
        self.collected = counts[0] if counts else None

    @property
    def missing(self) -> int:
        """Tests that are known and have no result."""
        return max(0, (self.collected or 0) - len(self.results))

    @property
    def where(self) -> str:
        """How many tests did not run, and where it stopped."""
        if self.collected is None:
            return f"{self.name}: stopped before its tests were counted"
        begun = re.fullmatch(r"tests/gpu/\S*?::(.*?)\s*", self.lines[-1])  # its line ends with its outcome
        return f"{self.name}: {self.missing} of {self.collected}" + (f", from {begun[1]}" if begun else "")

    def failures(self) -> Iterator[Row]:
        """A row for each test that failed, or for a process that ended before its tests did."""
        for name, outcome in self.results:
            if outcome in ("FAILED", "ERROR"):
                yield Row(name, failed=True, note=_why(self.lines, name))
        broken = self.missing or (not self.results and not self.reasons)
        if self.ended and broken:
            yield Row(f"{self.name}: {self.missing} tests lost", failed=True, note="".join(self.lines)[-1500:])


def _why(lines: list[str], name: str) -> str:
    """The errors below a failed test's headline."""
    begin = next((at for at, line in enumerate(lines) if re.fullmatch(rf"_+ {re.escape(name)} _+\s*", line)), None)
    if begin is None:
        return ""
    after = lines[begin + 1 :]
    end = next((at for at, line in enumerate(after) if re.match(r"(_{3,} |={3,} |-{3,} )", line)), len(after))
    return "".join(line for line in after[:end] if line.startswith("E "))[:900].rstrip()
