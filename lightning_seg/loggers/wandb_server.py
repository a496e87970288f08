"""Asks whether W&B's server can be used, without a prompt and within seconds."""

import socket
from contextlib import redirect_stderr
from io import StringIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from lightning_seg.waiting import within

_SECONDS_TO_CONNECT = 3.0


def why_unreachable() -> str | None:
    """Why W&B's server cannot be used, in words; None if it can. It never prompts for a key, and takes only seconds."""
    import wandb

    server = wandb.setup().settings.base_url
    if not _reachable(server):
        return f"{server} does not answer"
    with redirect_stderr(StringIO()):  # it prints where the key is from, even if the run becomes offline
        has_key = wandb.login(prompt=False, verify=False)
    if not has_key:
        return "no API key; wandb login stores one"
    return None


def _reachable(url: str) -> bool:
    """Whether a server, or the proxy before it, takes a connection soon; the time to look up its name counts, too."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or (443 if parts.scheme == "https" else 80)

    def connect() -> bool:
        try:
            socket.create_connection((parts.hostname or host, port), _SECONDS_TO_CONNECT).close()
        except OSError:
            return False
        return True

    return within(_SECONDS_TO_CONNECT, connect) == [True]
