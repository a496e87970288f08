"""Reads a local file of weights into a dict of tensors, without running any code in the file."""

import datetime
import decimal
import fractions
import pathlib
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights.pickles import Array, load_arrays

PREFIX = "segmentor."
NETWORK_PREFIX = f"{PREFIX}network."
"""The prefix of the network's weights in a checkpoint of this project; other parts have other prefixes."""

LICENCE = "weights_licence"
"""Under this name, a checkpoint of this project holds the licence of the weights that its training began with."""

_VALUES: list[Any] = [
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
    *(decimal.Decimal, fractions.Fraction, frozenset),
]
"""Types of Python that torch refuses by default, although making a value of them has no other effect."""


@dataclass(frozen=True)
class StoredWeights:
    """The contents of a file of weights.

    Attributes:
        tensors: by the names in the file, without a technical prefix that all of them have.
        by_suffix: whether the file's names are known to be the ends of the network's.
        caffe2: whether the names are those of Caffe2's Detectron.
        beside: in a checkpoint of this project, the tensors outside the network, such as ``auxiliary.layers.0.weight``.
        class_names: in a checkpoint of this project, the classes of its training in id order; None if unknown.
        own: whether it is a checkpoint of this project.
        licence: in a checkpoint of this project, that of the weights that its training began with; None if unknown.
    """

    tensors: dict[str, Tensor]
    by_suffix: bool = False
    caffe2: bool = False
    beside: dict[str, Tensor] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    own: bool = False
    licence: str | None = None


def read_weights(path: Path, source: str) -> StoredWeights:
    """Read a file of weights by its suffix.

    ``.pkl`` is a pickle of arrays, from Detectron2's model zoo or from Caffe2. ``.safetensors`` is that format. torch
    saved anything else: a dict of tensors, or one under ``model`` (Detectron2), ``model_state`` (pycls) or
    ``state_dict`` (Lightning). The formats of Detectron2, Caffe2 and pycls are those that
    ``detectron2/checkpoint/detection_checkpoint.py`` reads.

    Args:
        path: of the file.
        source: what the user gave, for errors.

    Raises:
        CheckpointError: if the file is empty, damaged, could run code, or holds no tensor.
    """
    if path.stat().st_size == 0:
        raise CheckpointError(f"weights {source} cannot be read: {path} is empty: delete it and download it again")
    match path.suffix.partition("?")[0]:  # the cache keeps a URL's query
        case ".pkl":
            stored = _read_pickle(path, source)
        case ".safetensors":
            stored = StoredWeights(_read_safetensors(path, source))
        case _:
            stored = _read_torch(path, source)
    if not stored.tensors:
        raise CheckpointError(f"weights {source} hold no tensor under model, model_state, state_dict or directly")
    return stored


def read_checkpoint(path: Path, what: str, *, mmap: bool = True) -> dict[str, Any]:
    """Read a dict that torch saved, without running code in it.

    Args:
        path: of the file.
        what: how an error begins, such as ``checkpoint runs/a.ckpt``.
        mmap: leave its tensors on disk until they are used; the file must stay until then.

    Raises:
        CheckpointError: if the file is empty or damaged, holds objects other than tensors and plain values, or no dict.
    """
    if path.stat().st_size == 0:
        raise CheckpointError(f"{what} cannot be read: it is empty")
    try:
        with torch.serialization.safe_globals(_VALUES):
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except Exception as error:  # a damaged file makes pickle and zip raise anything
        message = str(error)
        if foreign := re.search(r"GLOBAL (\S+)", message):
            reason = f"it asks for {foreign[1]}, and anything but tensors and plain values could run code"
        elif "TorchScript" in message:
            reason = "it is a program of TorchScript, not a dict of tensors"
        elif "Weights only" in message:  # torch then advises to run what the file asks for
            reason = "it is damaged"
        else:
            what_it_said = f"{type(error).__name__}: {message.partition('. ')[0]}".splitlines()[0]
            reason = f"it is damaged, or torch did not save it ({what_it_said})"
        raise CheckpointError(f"{what} cannot be read: {reason}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{what} holds a {type(data).__name__}, but a dict of tensors is expected")
    return data


def _read_torch(path: Path, source: str) -> StoredWeights:
    data = read_checkpoint(path, f"weights {source}")
    settings = data.get("hyper_parameters")
    class_names = settings.get("class_names") if isinstance(settings, dict) else None
    licence = data.get(LICENCE)
    for key in ("model", "model_state", "state_dict"):
        if isinstance(data.get(key), dict):
            data = data[key]
            break
    tensors = {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
    beside = {
        name.removeprefix(PREFIX): value
        for name, value in tensors.items()
        if name.startswith(PREFIX) and not name.startswith(NETWORK_PREFIX)
    }
    own = any(name.startswith(NETWORK_PREFIX) for name in tensors)
    for prefix in (NETWORK_PREFIX, "module."):  # a checkpoint of this project; a model wrapped in DataParallel
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        tensors = inside or tensors
    names = tuple(map(str, class_names)) if isinstance(class_names, list | tuple) else None
    return StoredWeights(
        tensors,
        by_suffix=path.suffix == ".pyth",
        beside=beside,
        class_names=names,
        own=own,
        licence=licence if own and isinstance(licence, str) else None,
    )


def _read_safetensors(path: Path, source: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, or OSError if it cannot be mapped
        raise CheckpointError(f"weights {source} cannot be read: {path} is damaged ({error})") from None


def _read_pickle(path: Path, source: str) -> StoredWeights:
    try:
        data = load_arrays(path.read_bytes())
    except Exception as error:  # a damaged pickle makes Python raise anything
        raise CheckpointError(f"weights {source} cannot be read: {error}") from None
    zoo = isinstance(data, dict) and "model" in data and "__author__" in data
    blobs = data["model"] if zoo else data.get("blobs", data) if isinstance(data, dict) else data
    if not isinstance(blobs, dict):
        raise CheckpointError(f"weights {source} hold a {type(blobs).__name__}, but a dict of arrays is expected")
    arrays = {str(name): value.value for name, value in blobs.items() if isinstance(value, Array)}
    tensors = {
        name: torch.from_numpy(array)
        for name, array in arrays.items()
        if array is not None and not name.endswith("_momentum")  # of Caffe2's optimiser
    }
    by_suffix = not zoo or data.get("matching_heuristics") is True
    return StoredWeights(tensors, by_suffix=by_suffix, caffe2=not zoo or data["__author__"] == "Caffe2")
