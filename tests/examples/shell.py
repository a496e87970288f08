"""Runs the commands of an example as they stand, in this process; trainings end after a few steps."""

import re
import runpy
import shlex
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest

from lightning_seg import cli

FEW_STEPS = (
    "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2",
    "--trainer.accelerator", "cpu",
)  # fmt: skip


def commands(text: str) -> list[str]:
    """The commands of a script, or of what a document shows of one, without comments and ``set -e``."""
    lines = [re.split(r"(?:^|\s)#", line)[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and line != "set -e"]


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``python FILE …`` or ``python -m MODULE …`` as the shell of a user would; ``|| true`` allows any status."""
    command, _, otherwise = command.partition(" || ")
    assert otherwise in ("", "true")
    words = shlex.split(command)
    assert words[0] == "python"
    status = _status(words[1:], monkeypatch)
    assert status == 0 or otherwise, f"{command} ends with {status}"


def _status(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    try:
        if words[0] == "-m":
            return import_module(words[1]).main(words[2:]) or 0
        if words[0] == "train.py":
            few = FEW_STEPS if words[1] == "fit" else ()
            return cli.main([*words[1:], *few]) or 0
        monkeypatch.setattr("sys.argv", list(words))
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0
