"""Silences messages of Lightning, Detectron2 and torch that no user can act on, each for a reason beside it."""

import logging
import warnings

SILENCED = {
    r"The `srun` command is available on your system but is not used": "a machine with Slurm works without it, too",
    r"`torch\.jit\.script(_method)?` is (deprecated|not supported)": "a deprecation within Detectron2",
    r"It is recommended to use `self\.log\(.*sync_dist=True\)`": "figures are the same on all processes already",
    "You're resuming from a checkpoint that ended before the epoch ended": "the data goes on inside an epoch here",
    "No seed found, seed set to 0": "Seed set to 0 follows",
    r"(?s).*a tuple is serialized as list": "YAML has no tuples, and parsing turns the list back",
    r".*treespec, LeafSpec.* is deprecated": "a deprecation within Lightning",
}
"""Regular expressions for the beginnings of warnings, and why each is silenced."""

UNLOGGED = {
    "pytorch_lightning.utilities.rank_zero": ("💡", "an advertisement"),
    "torch.utils.cpp_extension": ("No CUDA runtime is found", "a kernel for the CPU is compiled beside a CUDA toolkit"),
}
"""Loggers, a text in their messages, and why messages with it are silenced."""

MISSING_CALLBACKS = "Be aware that when using `ckpt_path`, callbacks used to create"
"""A warning that is silenced in evaluations: a checkpoint names the training's callbacks, which they do not need."""


def silence_lightning() -> None:
    """Silence :data:`SILENCED` and :data:`UNLOGGED`."""
    for message in SILENCED:
        warnings.filterwarnings("ignore", message=message)
    for logger in UNLOGGED:
        logging.getLogger(logger).addFilter(_is_told)


def _is_told(record: logging.LogRecord) -> bool:
    text, _ = UNLOGGED[record.name]
    return text not in record.getMessage()


def silence_evaluation() -> None:
    """Silence :data:`MISSING_CALLBACKS`."""
    warnings.filterwarnings("ignore", message=MISSING_CALLBACKS)
