"""The page is in the package, whole in itself, and runs under its policy."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lightning_seg.serving.page import PAGE, POLICY
from tests.conftest import REPOSITORY
from tests.serving import Thresholds, ask, served


def test_it_is_packaged_as_every_file_that_is_no_python() -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    given = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    named = {f"{package.replace('.', '/')}/{name}" for package, names in given.items() for name in names}
    assert "lightning_seg/serving/page.html" in named
    others = [path for path in (REPOSITORY / "lightning_seg").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert named == {path.relative_to(REPOSITORY).as_posix() for path in others}


def test_nothing_of_it_comes_from_elsewhere() -> None:
    assert not re.findall(r"https?:|url\(|@import|src=|<link(?! rel=\"icon\" href=\"data:,\")", PAGE)
    assert not re.findall(r" on\w+=| style=", PAGE)  # which the policy would leave out
    assert "'unsafe" not in POLICY
    assert "*" not in POLICY


def test_it_is_served_with_its_policy() -> None:
    with served(Thresholds()) as (port, _):
        answer = ask(port)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.body.decode() == PAGE


@pytest.mark.runs
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_its_script_runs_in_a_browser(tmp_path: Path) -> None:
    """It names the model, which it has asked the server for."""
    with served(Thresholds()) as (port, _):
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom", f"http://127.0.0.1:{port}/",
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert '<span id="about">thresholds on cpu, 3 classes</span>' in shown
    assert "up to 25 megapixels and 32 MiB" in shown
