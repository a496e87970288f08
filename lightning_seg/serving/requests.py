"""Reads what a request sends and wants, and refuses what no answer is possible to."""

import asyncio
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request

UPLOAD_SECONDS = 120
"""How long a body may take to arrive."""

_HOW = "send the bytes of one image file as the body, as by curl --data-binary @image.jpg"


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, of which no more is kept than may be.

    Raises:
        HTTPException: 400, 408, 413 or 415; before anything is read where the headers tell.
        ClientDisconnect: if the client has gone.
    """
    headers = request.headers
    if (encoding := headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise HTTPException(415, f"the body has Content-Encoding {encoding}, which is not taken: {_HOW}")
    if (kind := headers.get("content-type", "").partition(";")[0].strip().lower()).startswith("multipart/"):
        raise HTTPException(415, f"the body is a form ({kind}), which is not taken: {_HOW}")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(f"{int(length)}", max_bytes)
    try:
        data = await asyncio.wait_for(_read(request, max_bytes), UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the body has not arrived within {UPLOAD_SECONDS} seconds") from None
    if not data:
        raise HTTPException(400, f"the body is empty: {_HOW}")
    return data


async def _read(request: Request, max_bytes: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        if len(data) + len(chunk) > max_bytes:
            raise _too_large(f"more than {max_bytes}", max_bytes)
        data += chunk
    return bytes(data)


def _too_large(length: str, max_bytes: int) -> HTTPException:
    return HTTPException(
        413, f"the body has {length} bytes, and this server takes at most {max_bytes}: shrink the image"
    )


def wanted(accept: str | None, offered: Iterable[str]) -> str | None:
    """The media type that an ``Accept`` header likes best; of equals, the first that is offered; None: it likes none.

    >>> wanted("image/*;q=0.5, application/json", ["image/png", "application/json"])
    'application/json'
    >>> wanted("text/html, */*;q=0.8", ["image/png", "application/json"])
    'image/png'
    >>> wanted("text/html", ["image/png"]) is None
    True

    Args:
        accept: the header; without one, anything is liked.
        offered: media types, the usual one first.
    """
    likings: dict[str, float] = {}
    for entry in (accept or "*/*").lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        likings[kind] = next((_number(part[2:]) for part in parameters if part.startswith("q=")), 1.0)

    def liking(kind: str) -> float:
        patterns = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        return next((likings[pattern] for pattern in patterns if pattern in likings), 0.0)

    best = max(offered, key=liking)
    return best if liking(best) > 0 else None


def _number(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
