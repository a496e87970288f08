"""Guesses which name a user may have meant."""

import difflib
from collections.abc import Iterable

_CUTOFF = 0.5
"""How similar two names must be at least, as difflib counts it, for one to be a typo of the other."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known names, or nothing.

    >>> did_you_mean("vehicel", ["road", "vehicle"])
    '; did you mean vehicle?'
    >>> did_you_mean("x", ["road"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=_CUTOFF)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def option_meant(name: str, options: Iterable[str]) -> str:
    """The end of an error about an option of a command that is not known: what may have been meant, or nothing.

    >>> option_meant("street.yaml", [])
    ': give --config street.yaml'
    >>> option_meant("model.lr", ["model.scale_lr"])
    '; the learning rate is SOLVER.BASE_LR of model.overrides, or lr of model.optimizer'
    >>> option_meant("epochs", ["trainer.max_epochs", "trainer.max_steps"])
    '; did you mean trainer.max_epochs?'
    """
    if name.endswith((".yaml", ".yml")):
        return f": give --config {name}"
    if name.rpartition(".")[2] in ("lr", "learning_rate"):
        return "; the learning rate is SOLVER.BASE_LR of model.overrides, or lr of model.optimizer"
    return did_you_mean(name, options)
