"""Locks a run folder, so that one training or prediction at a time uses it, also over a network file system.

The lock is a POSIX lock (``fcntl``) on a file in the folder. The kernel, or the NFS server, releases it when the
process ends, however it ends. Its children, such as loading processes, never hold it. The file stays: its text says
who holds the lock, or held it last.
"""

import errno
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from lightning_seg.errors import BusyError

LOCK_NAME = "run.lock"

_PATIENCE = 1.0
"""Seconds until a folder counts as busy: a dry run holds the lock for a moment when it looks."""

_TAKEN = (errno.EACCES, errno.EAGAIN)

_held: dict[Path, IO[str]] = {}
"""The locks of this process. No other open file of the same path may be closed: POSIX would release the lock."""


def claim_folder(folder: Path, *, predicts: bool = False, otherwise: str | None = None) -> None:
    """Keep other trainings out of a folder until this process ends, or :func:`release_folders`.

    Nothing is written unless the folder is free. The first process of a run claims it for all.

    Args:
        folder: of the run.
        predicts: whether it holds predictions, and others that predict are kept out.
        otherwise: what to do in place of what a training or a prediction would do in another folder.

    Raises:
        BusyError: if another process holds it; names that process.
    """
    path = folder.resolve() / LOCK_NAME
    end = time.monotonic() + _PATIENCE
    while path not in _held:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise BusyError(f"{path} cannot be opened ({error.strerror}): mend its rights, or give --name") from None
        free, current = _lock(file, fcntl.LOCK_EX), _is_at(file, path)
        if free and current:
            _held[path] = file
            _write_holder(file)
            return
        holder = _read_holder(file)
        file.close()
        if not current:
            continue
        if _was_this_job(holder):
            path.unlink(missing_ok=True)  # a server may keep its lock for minutes; a new file has none
        elif time.monotonic() > end:
            raise BusyError(_describe(folder, path, holder, predicts=predicts, otherwise=otherwise))
        else:
            time.sleep(0.1)


def refuse_busy(folder: Path) -> None:
    """Check that no other process trains in a folder, and leave no trace.

    Raises:
        BusyError: as in :func:`claim_folder`.
    """
    path = folder.resolve() / LOCK_NAME
    if path in _held or not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        holder = _read_holder(file)
        if not _was_this_job(holder) and not _lock(file, fcntl.LOCK_SH):
            raise BusyError(_describe(folder, path, holder))


def release_folders() -> None:
    """Release all folders that this process has claimed."""
    while _held:
        _held.popitem()[1].close()


def _lock(file: IO[str], kind: int) -> bool:
    """Lock a file; False if another process holds a lock on it."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        warnings.warn(
            f"{Path(file.name).parent} is on a file system without locks ({error.strerror}): nothing keeps a second "
            "job from training in it",
            stacklevel=3,
        )
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one at its path: a requeued job may have replaced it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(file: IO[str]) -> None:
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    holder: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "since": now}
    if job := os.environ.get("SLURM_JOB_ID"):
        holder |= {"slurm_job": job, "restart": _restart(os.environ)}
    try:
        file.truncate(0)
        file.write(json.dumps(holder) + "\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError:  # a full disk: the lock works without its text, and the first checkpoint will give the reason
        pass


def _read_holder(file: IO[str]) -> Mapping[str, Any]:
    """What the text says; empty while it is being written."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _was_this_job(holder: Mapping[str, Any]) -> bool:
    """Whether the holder is an earlier start of this Slurm job; Slurm has ended all its processes.

    Slurm requeues a job at once if its machine dies, but an NFS server releases that machine's lock only after a while.
    """
    job = os.environ.get("SLURM_JOB_ID")
    return job is not None and holder.get("slurm_job") == job and holder.get("restart", 0) < _restart(os.environ)


def _restart(environment: Mapping[str, str]) -> int:
    text = environment.get("SLURM_RESTART_COUNT", "")
    return int(text) if text.isdecimal() else 0


def _describe(
    folder: Path, path: Path, holder: Mapping[str, Any], *, predicts: bool = False, otherwise: str | None = None
) -> str:
    pid, host, job = holder.get("pid", "?"), holder.get("host", "?"), holder.get("slurm_job")
    who = f"process {pid} on {host}" + (f", Slurm job {job}" if job else "") if holder else "another process"
    since = f", since {holder['since']}" if "since" in holder else ""
    stop = f"scancel {job}" if job else f"kill {pid} on {host}" if holder else "look for it"
    use, option = ("written to", "--output FOLDER to predict") if predicts else ("trained", "--name NAME to train")
    advice = otherwise or f"give {option} in another folder"
    return (
        f"{folder} is being {use} by {who}{since}: wait for its end, stop it ({stop}), or {advice} "
        f"(only if its machine is down for good: delete {path})"
    )
