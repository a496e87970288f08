"""Makes a trained module of its checkpoint, without the recipe, the pretrained weights and the loss of its training."""

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.models.config import find_config
from lightning_seg.models.recipe import recorded_config
from lightning_seg.module import SegmentationModule

_CRITERION = "segmentor.criterion."
"""How the names of a loss's own tensors begin."""


def restore_module(checkpoint: Mapping[str, Any], what: str) -> SegmentationModule:
    """The module that a checkpoint was written of, without its loss.

    Args:
        checkpoint: as it was read.
        what: to begin an error with.

    Raises:
        CheckpointError: if it is none of this program, of a newer version, or needs a file that is not there.
        ConfigError: if the model cannot be built here.
    """
    settings = checkpoint.get("hyper_parameters")
    if "state_dict" not in checkpoint or not isinstance(settings, Mapping) or "class_names" not in settings:
        raise CheckpointError(
            f"{what} holds no settings of a model, so it is plain weights or of another program: give a checkpoint "
            "that `train.py fit` or a Trainer wrote of a SegmentationModule"
        )
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    known = inspect.signature(SegmentationModule.__init__).parameters
    if unknown := sorted(given.keys() - known.keys()):
        raise CheckpointError(
            f"{what} has model.{', model.'.join(unknown)}, which this version does not know: use the one that wrote it"
        )
    file, values = recorded_config(given["config"])
    if values is None:
        try:
            find_config(file)
        except ConfigError as error:
            raise CheckpointError(
                f"{what} needs its file: {error}. It does not hold the contents of that file: an earlier "
                "version wrote it, or the file has values that are not plain. Put the file there, or start in the "
                "folder of the training"
            ) from None
    with _quietly():
        module = SegmentationModule(**{**given, "weights": "", "criterion": None, "compile": False})
    weights = {name: value for name, value in checkpoint["state_dict"].items() if not name.startswith(_CRITERION)}
    module.on_load_checkpoint({**checkpoint, "state_dict": weights})
    module.load_state_dict(weights)
    return module


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what a training says of its model."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
