"""The temperature that a checkpoint keeps beside its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info

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


def temperature_for(checkpoint: Mapping[str, Any], *, trains: bool) -> float:
    """The temperature of what a checkpoint's weights will say: 1 if they are trained on, which says so.

    Raises:
        CheckpointError: as of :func:`temperature_in`.
    """
    found = temperature_in(checkpoint)
    if trains and found != 1:
        rank_zero_info(
            f"The checkpoint's temperature {found:.4f} is that of its own weights, so the training goes on without: "
            "calibrate what it gives again"
        )
    return 1.0 if trains else found


def keep_temperature(path: Path, temperature: float) -> None:
    """Put it into a checkpoint file. A file that is whole lies there at every moment.

    Raises:
        CheckpointError: if the file cannot be read, or its folder not be written to.
        DiskFullError: if there is no room for another one beside it.
    """
    files, place = DurableCheckpointIO(), path.resolve()  # so that a link stays one
    try:
        files.save_checkpoint({**files.load_checkpoint(place), TEMPERATURE: temperature}, place)
    except OSError as error:
        raise CheckpointError(
            f"the temperature {temperature:.4f} cannot be kept in {place}, which stays as it was: {error}"
        ) from None
