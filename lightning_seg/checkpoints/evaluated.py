"""Finds what an evaluation evaluates: the checkpoint of a run folder, and the configuration of its training."""

import re
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.checkpoints.runs import choose_checkpoint
from lightning_seg.errors import CheckpointError

EXPORTED = (".onnx", ".pt2")
"""How the names of exported files end."""

EVALUATIONS = ("validate", "test", "predict")

_CONFIGURED = re.compile(r"(--config|--model\.config)(=.*)?|-c.*", re.DOTALL)
"""A flag that names a configuration of the model."""

_OTHER_FILE = re.compile(r"--model(=.*)?", re.DOTALL)
"""A flag that may name a file with one."""


def config_of_checkpoint(arguments: Sequence[str]) -> Path | None:
    """Find the ``config.yaml`` of the run whose checkpoint a command evaluates.

    Args:
        arguments: of the command line.

    Returns:
        The path; None if the command is no evaluation, names a configuration itself, or gives no file or folder as
        ``--ckpt_path``.

    Raises:
        CheckpointError: if the checkpoint does not exist, or its run has no ``config.yaml``.
    """
    if not arguments or arguments[0] not in EVALUATIONS or any(map(_CONFIGURED.fullmatch, arguments)):
        return None
    given = value_of("--ckpt_path", arguments)
    if given in (None, "", "null", "last", "best") or "://" in given or given.endswith(EXPORTED):
        return None
    path = Path(given)
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if path.is_dir():
        _refuse_other_folder(path)
    places = [path] if path.is_dir() else [path.parent.parent, path.parent]
    for place in places:
        if (config := place / "config.yaml").is_file():
            return config
    if any(map(_OTHER_FILE.fullmatch, arguments)):
        return None
    raise CheckpointError(
        f"checkpoint {path} lies in no run folder ({' or '.join(str(place / 'config.yaml') for place in places)} is "
        "not there): give the config.yaml of the run that wrote it as --config"
    )


def checkpoint_in(folder: Path) -> Path:
    """The best checkpoint of a run folder, chosen as ``--ckpt_path best`` chooses, else its last one.

    Raises:
        CheckpointError: if the folder is not that of a run, or holds no checkpoint that can be read.
    """
    _refuse_other_folder(folder)
    for which in ("best", "last"):
        if (found := choose_checkpoint(folder / "checkpoints", which)) is not None:
            return found
    raise CheckpointError(
        f"run folder {folder} holds no checkpoint that can be read. It is that of an evaluation, or its training "
        "ended before its first checkpoint: give the folder of another run"
    )


def _refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that is no run folder, and name a run folder that may be meant."""
    if (folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir():
        return
    runs = sorted(file.parent.parent for file in folder.glob("version_*/checkpoints/*.ckpt"))
    if folder.resolve().name == "checkpoints":
        runs = [folder.resolve().parent]
    hint = f", such as {runs[-1]}" if runs else ""
    raise CheckpointError(f"{folder} is no run folder: give runs/<name>/version_<n>{hint}, or a checkpoint file")


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The last value of a flag, given as ``--flag value`` or ``--flag=value``."""
    value = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == flag:
            value = following
        elif argument.startswith(f"{flag}="):
            value = argument.removeprefix(f"{flag}=")
    return value
