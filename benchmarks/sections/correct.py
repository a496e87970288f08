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
RESULT = re.compile(r"^tests/gpu/\S*::(?P<name>.*?) (?P<outcome>PASSED|FAILED|ERROR|SKIPPED)")


def run(settings: Settings) -> Iterator[Row]:
    """A row for each failed test, and one for all that ran; a test that hangs is named and takes no other with it."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    if settings.device == "cpu":
        environment["LIGHTNING_SEG_GPU_TESTS"] = "cpu"
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "tests/gpu", "-v", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts="],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    reader.join(max(0.0, settings.left))
    ended = not reader.is_alive()
    process.kill()
    reader.join()
    if log := os.environ.get("LIGHTNING_SEG_PYTEST_LOG"):  # to mend failures without a second run
        Path(log).write_text("".join(lines))
    results = [(found["name"], found["outcome"]) for line in lines if (found := RESULT.match(line))]
    for name, outcome in results:
        if outcome in ("FAILED", "ERROR"):
            yield Row(name, failed=True, note=_why(lines, name))
    count = {kind: sum(outcome == kind for _, outcome in results) for kind in ("PASSED", "SKIPPED")}
    ran = len(results) - count["SKIPPED"]
    note = f"{count['SKIPPED']} skipped"
    if not ended:
        note += f"; stopped for lack of time, after: {lines[-1].strip() if lines else 'nothing'}"
    elif not results:
        note = "".join(lines)[-1500:]
    yield Row(
        "tests that pass", count["PASSED"], ran, count["PASSED"] / max(1, ran), 1.0, unit="tests",
        failed=not ran or not ended, note=note,
    )  # fmt: skip


def _why(lines: list[str], name: str) -> str:
    """The errors below a failed test's headline."""
    begin = next((at for at, line in enumerate(lines) if re.fullmatch(rf"_+ {re.escape(name)} _+\s*", line)), None)
    if begin is None:
        return ""
    after = lines[begin + 1 :]
    end = next((at for at, line in enumerate(after) if re.match(r"(_{3,} |={3,} |-{3,} )", line)), len(after))
    return "".join(line for line in after[:end] if line.startswith("E "))[:900].rstrip()
