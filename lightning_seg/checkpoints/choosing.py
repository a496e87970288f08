"""Chooses the run that a command resumes or begins, and the checkpoint that it starts from."""

import shutil
import sys
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from lightning_seg.checkpoints.evaluated import EXPORTED, checkpoint_in
from lightning_seg.checkpoints.lock import claim_folder, refuse_busy
from lightning_seg.checkpoints.runs import (
    RunFolder,
    announce_version,
    checkpoint_step,
    new_run,
    newest_checkpoint,
    newest_training,
    next_version,
)
from lightning_seg.errors import CheckpointError
from lightning_seg.lightning_internals import is_main_process


class RunChoice:
    """The run of a command.

    Args:
        root: the folder of all runs.
        name: of the experiment, the folder below ``root``.
        trains: whether the command is ``fit``.

    Attributes:
        resumed: the run that is resumed; None for a new one.
        step: how many optimiser steps its checkpoint was saved after; None for a new run.
    """

    resumed: RunFolder | None = None
    step: int | None = None

    def __init__(self, root: Path, name: str, *, trains: bool) -> None:
        self.root = root
        self.name = name
        self.trains = trains
        self._first_of_new: int | None = None

    @property
    def path(self) -> Path:
        """The folder of the resumed run, or of the run that will be made."""
        if self.resumed is not None:
            return self.resumed.path
        return RunFolder(self.root, self.name, f"version_{next_version(self.root, self.name)}").path

    def choose(self, which: str, *, rehearses: bool, dry: bool) -> str | None:
        """Find the file of a checkpoint; with ``last``, a training also resumes its run.

        Args:
            which: a file, the folder of a run, ``last`` or ``best``.
            rehearses: whether this is a ``fast_dev_run``, which resumes no run.
            dry: whether only to look, and to claim no folder.

        Returns:
            The path; None if a training should go on, but its newest run has no checkpoint yet.

        Raises:
            BusyError: if another process trains in the run of ``last``.
            CheckpointError: if there is no such checkpoint, or it cannot be loaded.
        """
        if "://" in which:
            raise CheckpointError(f"checkpoint {which} is an address: download the file and give its path")
        if which not in ("last", "best"):
            return self._named(which)
        goes_on = self.trains and which == "last"
        if goes_on and not rehearses:
            self._claim_newest(dry=dry)
        found = newest_checkpoint(self.root, self.name, which, to_train=self.trains)
        folder = self.root / self.name
        if found is not None:
            run, path = found
            if goes_on and not rehearses:
                self.resumed, self.step = run, checkpoint_step(path)
            return str(path)
        if goes_on:
            print(f"No checkpoint in the newest training in {folder}: starting afresh.", file=sys.stderr)
            return None
        raise CheckpointError(f"{folder} holds no run with a {which} checkpoint: give a path as --ckpt_path")

    def _named(self, which: str) -> str:
        """Check a file that the user names; if it is a run folder, take its checkpoint."""
        if Path(which).is_dir():
            if self.trains:
                raise CheckpointError(
                    f"--ckpt_path {which} is a folder, but a training goes on from a file: give the one in its "
                    "checkpoints/, or --ckpt_path last for the newest run of the config"
                )
            which = str(checkpoint_in(Path(which)))
            rank_zero_info(f"Checkpoint: {which}")
        if not which.endswith(EXPORTED):
            checkpoint_step(Path(which), to_train=self.trains)
        return which

    def _claim_newest(self, *, dry: bool) -> None:
        """Claim the newest training before it is read, so that no other job trains in it; a dry run only looks."""
        self._first_of_new = next_version(self.root, self.name)
        newest = newest_training(self.root, self.name)
        if newest is not None and is_main_process():
            (refuse_busy if dry else claim_folder)(newest.path)

    def go_on_in(self, run: RunFolder) -> None:
        """Let the command write to a folder that is there; the processes that this one starts find it."""
        self.resumed = run
        announce_version(run)

    def begin(self) -> RunFolder:
        """The resumed run, or a new one; the folder of a new run is made."""
        return self.resumed or new_run(self.root, self.name)

    @rank_zero_only
    def claim(self, run: RunFolder) -> None:
        """Claim a new run's folder, so that a job that was started twice trains only once.

        Raises:
            BusyError: if the job should go on with ``last``, and another job has begun that run in the meantime.
        """
        if not self.trains or self.resumed is not None:
            return
        claim_folder(run.path)
        if self._first_of_new is not None:
            for number in range(self._first_of_new, int(run.version.rpartition("_")[2])):
                refuse_busy(run.path.with_name(f"version_{number}"))

    @rank_zero_only
    def withdraw(self, run: RunFolder) -> None:
        """Remove the folder of a refused command, and the folders above it that it made; W&B's files stay."""
        if self.resumed is not None or (run.path / "wandb").exists():
            return
        shutil.rmtree(run.path, ignore_errors=True)
        for folder in (run.path.parent, run.root):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
