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
