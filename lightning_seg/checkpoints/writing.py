"""Writes checkpoints whole or not at all, and reads them without running code.

It writes nothing that it could not read again: NumPy's values become plain ones, and an error names any other value.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from lightning_seg.errors import CheckpointError
from lightning_seg.files import lacks_room, replacing
from lightning_seg.models.weights import read_checkpoint

_ARRAY = "numpy.ndarray"
"""The only key of a dict that stands for an array; its value is the array as a tensor."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin, but a checkpoint file is complete at every moment, and can be read again.

    Lightning writes to the folder for temporary files, and moves the result without syncing it. If that folder is on
    another file system, a kill in between leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; it replaces the file that is there.

        Raises:
            CheckpointError: if a value could not be read again; names it. The file that was there stays.
            DiskFullError: if there is no room for it. The file that was there stays.
        """
        plain = _encode(checkpoint)
        with replacing(Path(path)) as file:
            try:
                torch.save(plain, file)
                file.flush()
                read_checkpoint(Path(file.name), f"checkpoint {path}")  # its tensors stay on the disk
            except Exception as error:
                if not lacks_room(error):
                    _refuse_unreadable(plain)
                raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into memory on the CPU; no argument can make it run code in the file.

        Raises:
            CheckpointError: if the file is damaged or holds more than tensors and plain values.
        """
        # The file is not mapped: optimisers keep the tensors, and another machine may replace the file.
        checkpoint: dict[str, Any] = _decode(read_checkpoint(Path(path), f"checkpoint {path}", mmap=False))
        return checkpoint


def _refuse_unreadable(checkpoint: dict[str, Any]) -> None:
    """Raise an error that names the first value that cannot be read again: the keys that lead to it, and its type."""
    with TemporaryDirectory() as folder:
        if (found := _find_unreadable(checkpoint, (), Path(folder, "value"))) is not None:
            keys, kind = found
            raise CheckpointError(
                f"a checkpoint could not be read again: in it, {' → '.join(keys)} is a {kind.__module__}."
                f"{kind.__qualname__}. Only numbers, strings, dates, paths, tensors, arrays of numbers, and lists and "
                "dicts of them can be read: let the state_dict() or the settings it comes from hold such values"
            )


def _find_unreadable(value: Any, keys: tuple[str, ...], scratch: Path) -> tuple[tuple[str, ...], type] | None:
    """Find the innermost value that cannot be read again: the keys that lead to it, and its type."""
    if value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str):
        return None
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in inside:
        for each in (key, part):
            if (found := _find_unreadable(each, (*keys, str(key)), scratch)) is not None:
                return found
    if type(value) in (dict, list, tuple) or _is_readable(value, scratch):
        return None
    return keys, type(value)


def _is_readable(value: Any, scratch: Path) -> bool:
    try:
        torch.save({"value": value}, scratch)
        read_checkpoint(scratch, "value", mmap=False)
    except Exception:  # pickling a foreign object may raise anything
        return False
    return True


def _encode(value: Any) -> Any:
    """Replace NumPy's types, which a reader refuses; a value that holds none stays the same object."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return {_ARRAY: torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))}
    return _rebuild(value, _encode)


def _decode(value: Any) -> Any:
    """Undo :func:`_encode`, except for scalars: plain ones are equal to NumPy's."""
    if isinstance(value, dict) and list(value) == [_ARRAY]:
        return value[_ARRAY].numpy()
    return _rebuild(value, _decode)


def _rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container with its values changed, or the same object if nothing changes."""
    if isinstance(value, dict):
        pairs = [(change(key), change(part)) for key, part in value.items()]
        if all(key is old and part is value[old] for (key, part), old in zip(pairs, value, strict=True)):
            return value
        rebuilt = copy.copy(value)  # the same kind, with its attributes
        rebuilt.clear()
        rebuilt.update(pairs)
        return rebuilt
    if type(value) in (list, tuple):
        parts = [change(part) for part in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else type(value)(parts)
    return value
