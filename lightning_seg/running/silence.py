"""Leaves out messages of Lightning's and Detectron2's that no user can act on; each with the reason why."""

import logging
import warnings

SILENCED = {
    r"The `srun` command is available on your system but is not used": "a machine with Slurm may be used without it",
    r"`torch\.jit\.script(_method)?` is (deprecated|not supported)": "a deprecation within Detectron2",
    r"It is recommended to use `self\.log\(.*sync_dist=True\)`": "figures are the same on all processes already",
    "You're resuming from a checkpoint that ended before the epoch ended": "the data goes on inside an epoch here",
    r"(?s).*a tuple is serialized as list": "YAML has no tuples, and parsing turns the list back",
    r".*treespec, LeafSpec.* is deprecated": "a deprecation within Lightning",
}
"""Beginnings of warnings, as regular expressions, and why each is left out."""

MISSING_CALLBACKS = "Be aware that when using `ckpt_path`, callbacks used to create"
"""A warning that is left out of evaluations: they need no callback of the training, whose states a checkpoint holds."""


def silence_lightning() -> None:
    """Leave out :data:`SILENCED`, and Lightning's advertisements, which a light bulb marks."""
    for message in SILENCED:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())


def silence_evaluation() -> None:
    """Leave out :data:`MISSING_CALLBACKS`."""
    warnings.filterwarnings("ignore", message=MISSING_CALLBACKS)
