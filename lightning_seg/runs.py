"""Run folders: ``runs/<name>/<version>/``, and the checkpoints in them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights import read_checkpoint

DEFAULT_ROOT = "runs"

_FOLDER_VARIABLE = "LIGHTNING_SEG_RUN_VERSION"
"""How the first process tells those that it starts which version it made."""


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies: ``root/name/version``."""

    root: Path
    name: str
    version: str

    @property
    def path(self) -> Path:
        return self.root / self.name / self.version

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"


def new_run(root: Path, name: str) -> RunFolder:
    """Make the folder of the next free version, on the main process; the others get the same or wait for it.

    Two jobs that start at once get two versions.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return RunFolder(root, name, os.environ.get(_FOLDER_VARIABLE, ""))
    number = next_version(root, name)
    while True:
        run = RunFolder(root, name, f"version_{number}")
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        os.environ[_FOLDER_VARIABLE] = run.version
        return run


def next_version(root: Path, name: str) -> int:
    """The number of the version that a new run gets, unless another job is faster."""
    return max((number for number, _ in _versions(root, name)), default=-1) + 1


def newest_checkpoint(root: Path, name: str, which: str, *, to_train: bool = False) -> tuple[RunFolder, Path] | None:
    """The newest run of that name with a checkpoint that can be loaded, and that checkpoint.

    Args:
        root: of all runs.
        name: of the config.
        which: ``last``: the newest file of the run; ``best``: the one with the best ``val/mIoU``.
        to_train: pass over those of weights alone.
    """
    for _, run in sorted(_versions(root, name), reverse=True, key=lambda pair: pair[0]):
        files = sorted(run.checkpoints.glob("*.ckpt"), key=lambda file: (file.stat().st_mtime_ns, file.stem == "last"))
        for file in reversed(files):
            if which == "best" and not file.stem.startswith("best"):
                continue
            try:
                checkpoint_step(file, to_train=to_train)
            except CheckpointError as error:
                rank_zero_warn(f"{error}; looking for an older one")
                continue
            return run, file
    return None


def checkpoint_step(path: Path, *, to_train: bool = False) -> int:
    """The number of optimiser steps that a checkpoint was saved after; a check that it can be loaded.

    Args:
        path: of the file.
        to_train: whether a training is to go on from it.

    Raises:
        CheckpointError: if the file does not exist, is damaged, holds code, is no Lightning checkpoint, or has not what
            is needed to train.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    checkpoint = read_checkpoint(path, f"checkpoint {path}")
    if "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path} is no checkpoint of this program: plain weights are given as model.weights, not as ckpt_path"
        )
    if to_train and "optimizer_states" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {path} holds weights alone (save_weights_only), from which no training goes on: give it as "
            "model.weights to begin one with them"
        )
    return int(checkpoint.get("global_step", 0))


def _versions(root: Path, name: str) -> list[tuple[int, RunFolder]]:
    folder = root / name
    paths = folder.iterdir() if folder.is_dir() else ()
    matches = [match for path in paths if (match := re.fullmatch(r"version_(\d+)", path.name))]
    return [(int(match[1]), RunFolder(root, name, match[0])) for match in matches]
