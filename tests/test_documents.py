"""What the documents name exists, and the commands that they show parse."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from lightning_seg.audit import parse
from lightning_seg.cli import main
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("command", [line for line in LINES if line.startswith("python train.py")])
def test_commands_parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as caught:
        main([*shlex.split(command)[2:], "--print_config"])
    assert caught.value.code == 0


@pytest.mark.parametrize("command", [line for line in LINES if line.startswith("python -m lightning_seg.audit")])
def test_audits_parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert parse(shlex.split(command)[3:]).data.classes


def test_make_targets_exist() -> None:
    targets = [line.split()[1] for line in LINES if line.startswith("make ")]
    assert {"train", "test"} <= set(targets)
    subprocess.run(["make", "--dry-run", *targets, "install"], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_named_files_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    named = set(re.findall(r"\]\(([\w./-]+)\)", text)) | set(
        re.findall(r"`((?:configs|tests|lightning_seg)/[\w./]+\.\w+)`", text)
    )
    assert not [name for name in named if not (REPOSITORY / Path(name)).exists()]
