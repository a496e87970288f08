"""What ``make install`` asks pip for, in each kind of environment; pip itself is not called."""

import os
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

STUB = '#!/bin/sh\necho "$*" >> "{log}"\n'


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """One whose Python writes down what it is asked for."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.format(log=tmp_path / "log"))
    python.chmod(0o755)
    return tmp_path / "venv"


def install(environment: Path, *settings: str) -> list[str]:
    """The calls of pip."""
    log = environment.parent / "log"
    log.write_text("")
    command = ["make", "-C", str(REPOSITORY), "install", f"VENV={environment}", f"PYTHON={environment}/bin/python"]
    # Without what the make that runs the tests has set.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr
    return [line for line in log.read_text().splitlines() if line.startswith("-m pip install")]


def test_an_environment_that_exists_keeps_what_fits(environment: Path) -> None:
    (call,) = install(environment)
    assert call.endswith("-e .[dev]")
    assert "--upgrade" not in call
    assert install(environment) == []


def test_an_environment_of_make_gets_the_locked_versions(environment: Path) -> None:
    (environment / ".lightning_seg-own").touch()
    build, locked, own = install(environment)
    assert "--require-hashes" in build
    assert build.endswith("-r requirements-build.txt")
    assert "--require-hashes" in locked
    assert locked.endswith("--no-build-isolation -r requirements-locked.txt")
    assert own.endswith("--no-deps --no-build-isolation -e .")


def test_latest_and_locked_follow_each_other(environment: Path) -> None:
    (environment / ".lightning_seg-own").touch()
    for _ in range(2):
        (latest,) = install(environment, "LATEST=1")
        assert latest.endswith("--upgrade --upgrade-strategy eager -e .[dev]")
        assert install(environment, "LATEST=1") == []
        assert len(install(environment)) == 3
        assert install(environment) == []


def test_the_lock_is_complete_and_names_no_address() -> None:
    """Each requirement has hashes, and each direct dependency is there."""
    text = (REPOSITORY / "requirements-locked.txt").read_text() + (REPOSITORY / "requirements-build.txt").read_text()
    assert "://" not in text
    entries = re.findall(r"^(\S+)==.*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\S+==", text, re.MULTILINE))
    declared = {re.split(r"[^\w-]", line)[0].lower() for line in requires("lightning_seg") or []} - {"lightning_seg"}
    assert len(declared) > 25
    assert declared <= {name.lower() for name, _ in entries}


def test_the_image_has_all_that_make_reads() -> None:
    prerequisites = re.search(r"^\$\(STAMP\): (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert prerequisites is not None
    dockerfile = (REPOSITORY / "cluster/Dockerfile").read_text()
    assert all(name in dockerfile for name in prerequisites[1].split())
