"""Loads a model, listens, and serves until a signal."""

import errno
import ipaddress
import logging
import signal
import socket
from argparse import Namespace
from pathlib import PurePath

import uvicorn

from lightning_seg.errors import ConfigError
from lightning_seg.predictor import load
from lightning_seg.serving.app import application
from lightning_seg.serving.service import Limits, Service

STOPPING_SECONDS = 60
"""How long requests that were taken may still need after a signal."""

_HOSTS = "give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"


def serve(given: Namespace) -> None:
    """Serve what the command line names, in the main thread.

    Raises:
        CheckpointError: if the model cannot be loaded.
        ConfigError: if nothing can be listened to there, or there is no such device.
    """
    with _bound(given.host, given.port) as listener:
        predictor = load(given.ckpt_path, given.device, given.batch_size)
        limits = Limits(given.max_bytes, given.max_pixels, given.max_requests)
        service = Service(predictor, name_of(given.ckpt_path), limits)
        config = configured(service)
        try:
            listener.listen(config.backlog)
        except OSError as error:  # another process was faster
            raise _cannot_listen(given.host, given.port, error) from None
        host, port = listener.getsockname()[:2]
        print(
            f"Serving {service.name} at http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl+C stops it)",
            flush=True,
        )
        if not ipaddress.ip_address(host).is_loopback:
            print("Whoever reaches this machine can use it: there is no password.", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn raises it once more at its end
        uvicorn.Server(config).run(sockets=[listener])
        print("Stopped.")


def configured(service: Service) -> uvicorn.Config:
    """How a service is run: a line a request, and otherwise what goes wrong."""
    config = uvicorn.Config(
        application(service),
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=STOPPING_SECONDS,
    )
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    return config


def name_of(given: str) -> str:
    """A model's name without the folders of this machine.

    >>> name_of("/home/me/runs/street/version_0"), name_of("/home/me/runs/street/version_0/checkpoints/best.ckpt")
    ('street/version_0', 'street/version_0/best.ckpt')
    >>> name_of("/home/me/street.ckpt")
    'street.ckpt'
    """
    parts = [part for part in PurePath(given).parts if part != "checkpoints"]
    of_run = [place for place, part in enumerate(parts) if place and part.startswith("version_")]
    return "/".join(parts[of_run[-1] - 1 :] if of_run else parts[-1:])


def _bound(host: str, port: int) -> socket.socket:
    """A socket that takes a port, so that a mistake is found before a model is loaded; nobody can connect yet."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host} is not known ({error}): {_HOSTS}") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port rests for a minute after a server
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from None
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    remedies = {
        errno.EADDRINUSE: "another program uses it; give another --port, or 0 for any that is free",
        errno.EACCES: "give a --port above 1023, or 0 for any that is free",
        errno.EADDRNOTAVAIL: _HOSTS,
    }
    remedy = remedies.get(error.errno or 0, "give another --host or --port")
    return ConfigError(f"port {port} of {host} cannot be listened to ({error.strerror}): {remedy}")
