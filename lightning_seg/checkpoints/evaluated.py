"""Finds what an evaluation evaluates: the checkpoint of a run folder, and the configuration of its training."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from lightning_seg.checkpoints.runs import choose_checkpoint
from lightning_seg.errors import CheckpointError

EXPORTED = (".onnx", ".pt2")
"""How the names of exported files end."""

EVALUATIONS = ("validate", "test", "predict")

_GLUED = re.compile(r"-c[^=].*", re.DOTALL)
"""The short form of ``--config`` with its value."""

_OTHER_FILE = re.compile(r"--model(=.*)?", re.DOTALL)
"""A flag that may name a file with one."""


def config_of_checkpoint(arguments: Sequence[str]) -> Path | None:
    """Find the ``config.yaml`` of the run whose checkpoint a command evaluates; its own configs are laid over it.

    Args:
        arguments: of the command line.

    Returns:
        The path; None if the command is no evaluation, chooses the model itself, or gives no file or folder as
        ``--ckpt_path``.

    Raises:
        CheckpointError: if the checkpoint does not exist, or its run has no ``config.yaml``.
    """
    if not arguments or arguments[0] not in EVALUATIONS or chooses_model(arguments):
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


def chooses_model(arguments: Sequence[str]) -> bool:
    """Whether a command line is a whole experiment: a flag or a file of ``--config`` gives ``model.config``."""
    configs = [*values_of("--config", arguments), *values_of("-c", arguments)]
    configs += [argument[2:] for argument in arguments if _GLUED.fullmatch(argument)]
    in_two_files = configs and any(map(_OTHER_FILE.fullmatch, arguments))
    return bool(values_of("--model.config", arguments) or in_two_files) or any(map(_has_model, configs))


def _has_model(config: str) -> bool:
    """Whether a file gives ``model.config``; also if it cannot be read, since the parser then says why."""
    try:
        content = yaml.safe_load(Path(config).read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return True
    if not isinstance(content, dict):
        return True
    model = content.get("model")
    return "config" in model if isinstance(model, dict) else model is not None


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
    """The last value of a flag; None if it is not given."""
    return next(reversed(values_of(flag, arguments)), None)


def values_of(flag: str, arguments: Sequence[str]) -> list[str]:
    """All values of a flag, given as ``--flag value`` or ``--flag=value``."""
    values = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == flag:
            values.append(following)
        elif argument.startswith(f"{flag}="):
            values.append(argument.removeprefix(f"{flag}="))
    return values
