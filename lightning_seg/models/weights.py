"""Pretrained weights: fetched, read without running any code in them, and matched by name and shape."""

import io
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from lightning_seg.errors import CheckpointError
from lightning_seg.structures import summarise

if TYPE_CHECKING:
    from detectron2.config import CfgNode

NETWORK_PREFIX = "segmentor.network."
"""Where the network's weights stand in a checkpoint of this project."""

FREEZABLE = {"resnet": "RESNETS", "regnet": "REGNET"}
"""Backbones that heed ``MODEL.BACKBONE.FREEZE_AT``: what their builders' names contain, and their group of keys."""

_ARRAY_GLOBALS = {
    (module, name)
    for core in ("numpy.core", "numpy._core")
    for module, name in (
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        (f"{core}.multiarray", "_reconstruct"),
        (f"{core}.multiarray", "scalar"),
        (f"{core}.numeric", "_frombuffer"),
        ("collections", "OrderedDict"),
        ("_codecs", "encode"),
    )
}
"""All that a pickle of arrays needs; anything else could run code."""


def load_weights(network: nn.Module, source: str) -> str:
    """Load a Detectron2, plain PyTorch or lightning_seg checkpoint into a Detectron2 network.

    Names are matched as ``DetectionCheckpointer`` does, by the longest common suffix where the file is a bare
    backbone of Detectron2's model zoo. Tensors of another shape, such as the last layer for other classes, are
    left as they are.

    Args:
        network: what Detectron2 built.
        source: a path, URL or ``detectron2://`` name of a ``.pkl``, ``.pth`` or ``.ckpt`` file.

    Returns:
        One line on what was loaded and what was not.

    Raises:
        CheckpointError: if the file cannot be fetched or read, holds code, or nothing in it fits.
    """
    from detectron2.checkpoint import DetectionCheckpointer

    checkpoint = _read(_fetch(source), source)
    names = _without_counters(network.state_dict())
    incompatible = DetectionCheckpointer(network)._load_model(checkpoint)
    reshaped = [name for name, _, _ in incompatible.incorrect_shapes]
    missing = _without_counters(incompatible.missing_keys)
    loaded = len(names) - len(missing) - len(reshaped)
    if loaded == 0:
        raise CheckpointError(
            f"nothing in {source} fits this network, which has tensors such as {summarise(missing, 3)}; "
            f"the file has {summarise(incompatible.unexpected_keys, 3)}: choose weights of this architecture"
        )
    parts = [f"{source}: {loaded} of {len(names)} tensors loaded"]
    if missing:
        parts.append(f"not in the file: {summarise(missing, 3)}")
    if reshaped:
        parts.append(f"of another shape: {summarise(reshaped, 3)}")
    return "; ".join(parts)


def warn_of_frozen_random(cfg: "CfgNode") -> str | None:
    """What to say where random weights meet a config made for pretrained ones; None where all is well."""
    family = next((family for family in FREEZABLE if family in cfg.MODEL.BACKBONE.NAME), None)
    if family is None:
        return None
    norm = f"MODEL.{FREEZABLE[family]}.NORM"
    frozen = [
        setting
        for setting, applies in (
            (f"MODEL.BACKBONE.FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT}", cfg.MODEL.BACKBONE.FREEZE_AT > 0),
            (f"{norm} FrozenBN", cfg.MODEL[FREEZABLE[family]].NORM == "FrozenBN"),
        )
        if applies
    ]
    if not frozen:
        return None
    return (
        f"the backbone starts from random weights, but {' and '.join(frozen)} would keep them random: "
        f"set MODEL.BACKBONE.FREEZE_AT 0 and {norm} BN, or give model.weights"
    )


def _fetch(source: str) -> Path:
    from detectron2.utils.file_io import PathManager

    try:
        path = Path(PathManager.get_local_path(str(Path(source).expanduser()) if "://" not in source else source))
    except Exception as error:  # iopath passes on whatever the download raised
        raise CheckpointError(
            f"weights {source} cannot be fetched ({error}): download the file elsewhere and give its path as "
            'model.weights, or train from random weights with --model.weights ""'
        ) from None
    if not path.is_file():
        raise CheckpointError(f"weights {source} do not exist")
    return path


def read_checkpoint(path: Path, what: str) -> dict[str, Any]:
    """Read a dict that torch saved, without running code in it.

    Args:
        path: of the file; its tensors stay on disk until they are used.
        what: to begin an error with, such as ``checkpoint runs/a.ckpt``.

    Raises:
        CheckpointError: if the file is damaged, holds objects other than tensors and plain values, or no dict.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged file makes pickle and zip raise anything
        message = str(error)
        if foreign := re.search(r"GLOBAL (\S+)", message):
            reason = f"it holds a {foreign[1]}, and objects other than tensors could run code"
        else:
            reason = "it is damaged" + ("" if "Weights only" in message else f" ({message.splitlines()[0]})")
        raise CheckpointError(f"{what} cannot be read: {reason}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{what} holds a {type(data).__name__}, but a dict of tensors is expected")
    return data


def _read(path: Path, source: str) -> dict[str, Any]:
    """Read a file into the form that ``DetectionCheckpointer._load_model`` takes."""
    if path.suffix == ".pkl":
        try:
            data = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        except Exception as error:  # likewise
            raise CheckpointError(f"weights {source} cannot be read: {error}") from None
        return _detectron2_pickle(data)
    data = read_checkpoint(path, f"weights {source}")
    if "state_dict" in data:
        state = cast(dict[str, torch.Tensor], data["state_dict"])
        return {"model": {name.removeprefix(NETWORK_PREFIX): tensor for name, tensor in state.items()}}
    return data if "model" in data else {"model": data}


def _without_counters(names: Iterable[str]) -> list[str]:
    """Tensor names but for BatchNorm's counters, which old checkpoints lack and nothing here uses."""
    return [name for name in names if not name.endswith("num_batches_tracked")]


def _detectron2_pickle(data: dict[str, Any]) -> dict[str, Any]:
    """Detectron2's own pickles name their author; those of Caffe2 need their names translated."""
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    weights = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of arrays needs")
        return super().find_class(module, name)
