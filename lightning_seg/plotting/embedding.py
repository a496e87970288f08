"""Puts pictures into a page that fetches nothing."""

import base64
import io
from html import escape
from pathlib import Path

OVERLAY_SIDE = 420
"""The longest side of a shown image, in pixels."""


def thumbnail(name: str, file: Path) -> str:
    """A picture of a file as HTML, made small: ``name`` says what it shows."""
    from PIL import Image

    with Image.open(file) as picture:
        picture.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
    return image(name, buffer.getvalue(), "jpeg")


def image(name: str, content: bytes, kind: str = "png") -> str:
    """A picture as HTML, of the bytes of a file of a kind: ``png`` or ``jpeg``."""
    return f'<img alt="{escape(name)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
