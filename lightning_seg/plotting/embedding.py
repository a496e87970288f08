"""Puts pictures into a page that fetches nothing."""

import base64
import io
from html import escape
from pathlib import Path

OVERLAY_SIDE = 420
"""The longest side of a shown image, in pixels."""


def thumbnail(name: str, file: Path) -> str:
    """A picture of a file as HTML, made small, or that it cannot be read: ``name`` says what it shows."""
    from PIL import Image

    buffer = io.BytesIO()
    try:
        with Image.open(file) as picture:
            picture.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
            picture.save(buffer, "JPEG", quality=85)
    except Exception as error:  # a damaged file raises what it likes
        return f"<small>{escape(file.name)} cannot be read ({type(error).__name__})</small>"
    return image(name, buffer.getvalue(), "jpeg")


def image(name: str, content: bytes, kind: str = "png") -> str:
    """A picture as HTML, of the bytes of a file of a kind: ``png`` or ``jpeg``."""
    return f'<img alt="{escape(name)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
