"""Damaged images, masks and archives of every format neither end the process nor raise what does not name them."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.python import python

pytestmark = pytest.mark.runs

KINDS = 34
FILES = KINDS * 20


def test_every_damaged_file_is_read_or_refused_by_name(tmp_path: Path) -> None:
    """In a process of its own, since a decoder that crashes would take the tests with it."""
    done = subprocess.run(
        [python(), str(REPOSITORY / "benchmarks/fuzz_reading.py"), "--files", str(FILES), "--seed", "7",
         "--folder", str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{FILES} files: 0 ended the process, 0 raised a foreign error" in done.stdout
    table = [line.rsplit(maxsplit=5) for line in done.stdout.splitlines()[1 : KINDS + 1]]
    assert [counts[1] for counts in table] == KINDS * ["20"]
    assert all(int(counts[2]) > 0 for counts in table)  # the damage shows
