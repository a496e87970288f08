"""Makes run folders, ``runs/<name>/<version>/``, and finds the checkpoints in them."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from lightning_seg.config_paths import expanded
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.files import remove_drafts, replacing
from lightning_seg.lightning_internals import is_main_process
from lightning_seg.models.weights import read_checkpoint

DEFAULT_ROOT = "runs"
"""The folder of all runs, unless ``trainer.default_root_dir`` names another."""

_FOLDER_VARIABLE = "LIGHTNING_SEG_RUN_VERSION"
"""The environment variable in which the first process names its version to the processes that it starts."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: ``root/name/version``."""

    root: Path
    name: str
    version: str

    @property
    def path(self) -> Path:
        return self.root / self.name / self.version

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def trains(self) -> bool:
        """Whether it is a training, not an evaluation; it may have no checkpoint yet."""
        return self.checkpoints.is_dir()


def root_of_runs(given: str | None, name: str) -> Path:
    """The folder of all runs that ``trainer.default_root_dir`` means.

    Raises:
        ConfigError: if the run's name leads out of it.
    """
    root = Path(expanded(given or DEFAULT_ROOT))
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigError(
            f"the run's name {name!r} leads out of {root}: give --name a name such as 'street' or 'street/small', and "
            "trainer.default_root_dir another folder for all runs"
        )
    return root


def new_run(root: Path, name: str) -> RunFolder:
    """Make the folder of the next free version on the main process; the others get the same one or wait for it.

    Two jobs that start at once get two versions.
    """
    if not is_main_process():
        return RunFolder(root, name, os.environ.get(_FOLDER_VARIABLE, ""))
    number = next_version(root, name)
    while True:
        run = RunFolder(root, name, f"version_{number}")
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        announce_version(run)
        return run


def announce_version(run: RunFolder) -> None:
    """Tell the processes that this one starts which version it has."""
    os.environ[_FOLDER_VARIABLE] = run.version


@rank_zero_only
def prepare_folder(run: RunFolder, config: str, *, trains: bool) -> None:
    """Clear what a killed run left, and write ``config.yaml``; the command runs the same again with this file.

    Args:
        run: its folder exists.
        config: text of the file.
        trains: whether this is a training. Its folder for checkpoints marks it as one before the first checkpoint.
    """
    remove_drafts(run.path)
    if trains:
        run.checkpoints.mkdir(exist_ok=True)
    with replacing(run.path / "config.yaml", "w") as file:
        file.write(config)


def next_version(root: Path, name: str) -> int:
    """The version number that a new run gets, unless another job is faster."""
    return max(_versions(root, name), default=-1) + 1


def newest_training(root: Path, name: str) -> RunFolder | None:
    """The newest training of a name, with or without a checkpoint."""
    return newest_run(root, name, lambda run: run.trains)


def newest_run(root: Path, name: str, fits: Callable[[RunFolder], bool]) -> RunFolder | None:
    """The newest run of that name that fits."""
    return next(filter(fits, _newest_first(root, name)), None)


def newest_checkpoint(root: Path, name: str, which: str, *, to_train: bool = False) -> tuple[RunFolder, Path] | None:
    """Find the newest training of a name, and the last or best of its checkpoints that can be loaded.

    Steps and scores are read from the files, since copying changes the times of files. To train, a run without a
    checkpoint is not skipped: else an older, finished run would go on.

    Args:
        root: of all runs.
        name: of the config.
        which: ``last``: the one after the most steps; ``best``: the one with the best score, if possible of
            ``val/mIoU``.
        to_train: whether to skip checkpoints that hold only weights.
    """
    for run in filter(lambda run: run.trains, _newest_first(root, name)):
        if (file := choose_checkpoint(run.checkpoints, which, to_train=to_train)) is not None:
            return run, file
        if to_train and which == "last":
            return None
        rank_zero_warn(f"{run.path} has no {which} checkpoint: looking in an older run")
    return None


def choose_checkpoint(folder: Path, which: str, *, to_train: bool = False) -> Path | None:
    """The last or best checkpoint in a folder that can be loaded; for the arguments see :func:`newest_checkpoint`."""
    found: list[tuple[tuple[Any, ...], Path]] = []
    for file in sorted(folder.glob("*.ckpt")):
        try:
            checkpoint = _read(file, to_train=to_train)
        except CheckpointError as error:
            rank_zero_warn(f"{error}; it is passed over")
            continue
        step, stem = int(checkpoint.get("global_step", 0)), file.stem
        if which == "last":
            found.append(((step, stem == "last", stem != "previous"), file))
        elif (score := _score(checkpoint, file.name)) is not None:
            found.append(((True, *score, step), file))
        elif stem.startswith("best"):  # only weights: the file holds no score
            found.append(((False, False, 0.0, step), file))
    return max(found)[1] if found else None


def _score(checkpoint: Mapping[str, Any], name: str) -> tuple[bool, float] | None:
    """The score for which ``ModelCheckpoint`` saved a file: whether it is ``val/mIoU``, and how good, higher is better.

    None if the file was saved for another reason.
    """
    for key, state in checkpoint.get("callbacks", {}).items():
        kept = state.get("best_k_models") if isinstance(state, dict) else None
        scores = {Path(path).name: float(score) for path, score in (kept or {}).items()}
        if name in scores:
            return state.get("monitor") == "val/mIoU", -scores[name] if "'mode': 'min'" in key else scores[name]
    return None


def checkpoint_step(path: Path, *, to_train: bool = False) -> int:
    """How many optimiser steps a checkpoint was saved after. This also checks that it can be loaded.

    Args:
        path: of the file.
        to_train: whether a training should go on from it.

    Raises:
        CheckpointError: if the file does not exist, is damaged, holds code, is no Lightning checkpoint, or lacks what a
            training needs.
    """
    return int(_read(path, to_train=to_train).get("global_step", 0))


def _read(path: Path, *, to_train: bool) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    checkpoint = read_checkpoint(path, f"checkpoint {path}")
    if "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path} is no checkpoint of this program: give plain weights as model.weights, not as ckpt_path"
        )
    if to_train and "optimizer_states" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {path} holds weights alone (save_weights_only), and no training can go on from it: give it as "
            "model.weights to begin a training with them"
        )
    return checkpoint


def _newest_first(root: Path, name: str) -> Iterator[RunFolder]:
    versions = _versions(root, name)
    return (RunFolder(root, name, versions[number]) for number in sorted(versions, reverse=True))


def _versions(root: Path, name: str) -> dict[int, str]:
    """The folders of a name by their number."""
    folder = root / name
    paths = folder.iterdir() if folder.is_dir() else ()
    matches = [match for path in paths if (match := re.fullmatch(r"version_(\d+)", path.name))]
    return {int(match[1]): match[0] for match in matches}
