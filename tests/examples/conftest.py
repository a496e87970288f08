"""Where the commands of an example run."""

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the examples and the configurations, in which nothing has run yet."""
    for name in ("examples", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightning_seg.data.loading.resumable.usable_cpus", lambda processes: 0)  # no processes
    return tmp_path
