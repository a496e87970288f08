"""The temperature that a checkpoint keeps beside its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_seg.checkpoints.writing import DurableCheckpointIO
from lightning_seg.errors import CheckpointError

TEMPERATURE = "temperature"
"""The key of it. Nothing else in a checkpoint bears on how sure the network is."""


def temperature_in(checkpoint: Mapping[str, Any]) -> float:
    """What a checkpoint keeps; 1 of one that was never calibrated.

    Raises:
        CheckpointError: if it is no number above 0.
    """
    found = checkpoint.get(TEMPERATURE, 1.0)
    if not isinstance(found, int | float) or not 0 < found < float("inf"):
        raise CheckpointError(f"the checkpoint's temperature is {found!r}, but must be a number above 0")
    return float(found)


def keep_temperature(path: Path, temperature: float) -> None:
    """Put it into a checkpoint file. A file that is whole lies there at every moment.

    Raises:
        CheckpointError: if the file cannot be read.
        DiskFullError: if there is no room for another one beside it.
    """
    files, place = DurableCheckpointIO(), path.resolve()  # so that a link stays one
    files.save_checkpoint({**files.load_checkpoint(place), TEMPERATURE: temperature}, place)
