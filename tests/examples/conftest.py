"""Where the commands of an example run."""

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the examples and the configurations, in which nothing has run yet.

    Of made-up landscapes there is a fifth as many.
    """
    for name in ("examples", "configs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    for name in ("configs/quickstart.yaml", "examples/custom_head/two_convolutions.yaml"):
        text, number = re.subn(
            r"count: (\d+)", lambda found: f"count: {int(found[1]) // 5}", (REPOSITORY / name).read_text()
        )
        assert number == 2
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightning_seg.data.loading.resumable.usable_cpus", lambda processes: 0)  # no processes
    return tmp_path
