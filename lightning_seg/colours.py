"""Colours of classes: read, written, chosen so that they are easy to tell apart."""

import colorsys
import re
from collections.abc import Sequence

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

IGNORE_COLOURS: tuple[Colour, ...] = ((0, 0, 0), (0, 255, 255), (255, 255, 0), (112, 112, 112))
"""Colours for ignored pixels in pictures: the first one, or the next that looks like no class."""

_ALIKE = 64
"""Two colours are hard to tell apart if all their channels differ by less than this."""


def default_palette(num_classes: int) -> tuple[Colour, ...]:
    """Colours that are easy to tell apart, the same for the same number of classes on every machine.

    Hues step by the golden ratio, so that neighbouring ids are far apart; brightness alternates.

    >>> len(set(default_palette(1000)))
    1000
    """
    colours: list[Colour] = []
    for index in range(num_classes):
        hue = (0.08 + index * 0.618033988749895) % 1.0
        saturation = 0.55 + 0.35 * ((index * 7) % 5) / 4
        value = 0.95 - 0.4 * ((index * 3) % 4) / 3
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours)


def free_colour(candidates: Sequence[Colour], taken: Sequence[Colour]) -> Colour:
    """The first candidate that is easy to tell from all taken colours; without one, the furthest from them.

    >>> free_colour([(0, 0, 0), (80, 80, 80), (0, 255, 255)], taken=[(10, 0, 0), (255, 0, 0)])
    (0, 255, 255)
    """
    gaps = [
        min((max(abs(a - b) for a, b in zip(candidate, colour, strict=True)) for colour in taken), default=255)
        for candidate in candidates
    ]
    return candidates[0 if gaps[0] >= _ALIKE else gaps.index(max(gaps))]


def parse_colour(text: str | Sequence[int]) -> Colour:
    """Read ``#rrggbb`` or three numbers.

    >>> parse_colour("#ff8000")
    (255, 128, 0)
    >>> parse_colour([255, 128, 0])
    (255, 128, 0)

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(text, str):
        if not re.fullmatch("#[0-9a-fA-F]{6}", text):
            raise ValueError(f"colour {text!r} is not of the form '#rrggbb'")
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    if len(text) != 3 or not all(0 <= value <= 255 for value in text):
        raise ValueError(f"colour {text!r} is not three numbers from 0 to 255")
    return text[0], text[1], text[2]


def show_colour(colour: Colour) -> str:
    """Write a colour as ``#rrggbb``.

    >>> show_colour((255, 128, 0))
    '#ff8000'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)
