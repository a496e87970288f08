"""The page, and the policy that lets a browser run what is in it and fetch nothing from elsewhere."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

PAGE = (files(__package__) / "page.html").read_text(encoding="utf-8")
"""One HTML file with its style and its script."""


def _hash_of(element: str) -> str:
    """What a policy calls the only element of a kind."""
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", PAGE, flags=re.DOTALL)
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hash_of('script')}",
        f"style-src {_hash_of('style')}",
        "img-src blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
