"""A server in a thread, with a network that needs no training and can be held up."""

import http.client
import io
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.data.evaluation import plain_evaluation
from lightning_seg.predictor import Predictor
from lightning_seg.serving.server import configured
from lightning_seg.serving.service import Limits, Service
from lightning_seg.structures import Batch

NAMES = ("dark", "middle", "bright")


class Thresholds:
    """A network that tells dark from bright; a :class:`lightning_seg.trained.module_network.Network`."""

    def __init__(self, batch_size: int = 1, names: tuple[str, ...] = NAMES) -> None:
        self.images = plain_evaluation(names, 255)
        self.batch_size = batch_size
        self.device = torch.device("cpu")
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.failure: Callable[[Batch], None] = lambda batch: None

    def label_maps(self, batch: Batch) -> list[Tensor]:
        self.batches.append(len(batch))
        assert self.go.wait(30)
        self.failure(batch)
        return [torch.from_numpy(labels_of(item["image"].permute(1, 2, 0).numpy())) for item in batch]

    def probabilities(self, batch: Batch) -> list[Tensor]:
        maps = self.label_maps(batch)
        return [F.one_hot(labels.long(), len(self.images.info.names)).permute(2, 0, 1).float() for labels in maps]


def labels_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What :class:`Thresholds` says of an (H, W, 3) image."""
    return (image.astype(int).sum(2) // 256).astype(np.uint8)


def encoded(image: NDArray[Any], form: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **settings)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG of many black pixels, in rows that are a multiple of 100."""
    length = height * (1 + 3 * width)
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(length // (height // 100))) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", length % 65521, 1)
    data = b"\x78\xda" + piece * (height // 100) + packer.flush() + checksum
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def mask(self) -> NDArray[Any]:
        assert self.status == 200, self.body
        return np.asarray(Image.open(io.BytesIO(self.body)))


def ask(port: int, method: str = "GET", path: str = "/", body: Any = None, **headers: str) -> Answer:
    """Ask once; names of headers have ``_`` for ``-``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers.items()), response.read())
    finally:
        connection.close()


def predict(port: int, body: Any, **headers: str) -> Answer:
    return ask(port, "POST", "/predict", body, **headers)


@contextmanager
def served(network: Thresholds, limits: Limits | None = None) -> Iterator[tuple[int, Service]]:
    """The port of a server, and what answers there; it stops as after a signal."""
    service = Service(Predictor(network), "thresholds", limits or Limits())
    config = configured(service)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1], service
    finally:
        network.go.set()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)
