"""What a user may have meant."""

import difflib
from collections.abc import Iterable

_CUTOFF = 0.5
"""Least similarity of two names, as difflib counts it, at which one is taken for a slip of the other."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What an error of an unknown name ends with: the nearest known names, or nothing.

    >>> did_you_mean("vehicel", ["road", "vehicle"])
    '; did you mean vehicle?'
    >>> did_you_mean("x", ["road"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=_CUTOFF)
    return f"; did you mean {' or '.join(close)}?" if close else ""
