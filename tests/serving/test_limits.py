"""Nothing is read, decoded or held without a limit."""

import json
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from lightning_seg.data.reading import ImageFile
from lightning_seg.serving import requests
from lightning_seg.serving.service import Limits
from tests.predictors import noise
from tests.serving import Thresholds, ask, bomb, encoded, labels_of, predict, served

IMAGE = noise(20, 30)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(Thresholds(), Limits(max_bytes=200_000)) as (port, _):
        yield port


def received(connection: socket.socket, before: bytes = b"") -> bytes:
    """All of an answer that is JSON."""
    answer = b""
    while not (before + answer).endswith(b"}"):
        answer += connection.recv(65536)
    return answer


def test_a_body_without_a_length_is_read_up_to_the_limit(port: int) -> None:
    """Chunks without end are answered while they still come."""
    assert np.array_equal(predict(port, iter([encoded(IMAGE)[:50], encoded(IMAGE)[50:]])).mask, labels_of(IMAGE))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.setblocking(False)
        chunk = b"2710\r\n" + bytes(10_000) + b"\r\n"
        answer, sent = b"", 0
        end = time.monotonic() + 30
        while not answer:
            assert time.monotonic() < end
            try:
                sent += connection.send(chunk[sent % len(chunk) :])
            except BlockingIOError:
                time.sleep(0.001)
            try:
                answer = connection.recv(65536)
            except BlockingIOError:
                continue
        connection.setblocking(True)
        answer += received(connection, answer)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"the body has more than 200000 bytes" in answer


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_arrive_is_waited_for_no_longer_than_allowed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "UPLOAD_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body has not arrived within 0.05 seconds" in answer


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 megapixels in a small file."""
    data = bomb(20_000, 10_000)
    assert len(data) < 2**20
    with served(Thresholds()) as (port, _):
        assert np.array_equal(predict(port, bomb(30, 200)).mask, np.zeros((200, 30)))  # it is a PNG like any other
        monkeypatch.setattr(ImageFile, "whole", lambda file: pytest.fail("decoded"))
        answer = predict(port, data)
    assert answer.status == 413
    assert json.loads(answer.body)["error"].startswith("the image is 20000×10000 pixels, and this server takes at most")


def test_a_line_of_pixels_is_refused_that_a_network_would_pad_to_a_plane() -> None:
    with served(Thresholds()) as (port, _):
        assert np.array_equal(predict(port, bomb(65_500, 100)).mask, np.zeros((100, 65_500)))
        assert predict(port, bomb(65_500, 100), Accept="image/jpeg").status == 200
        answer = predict(port, bomb(65_501, 100))
    assert answer.status == 413
    assert "65501×100 pixels, and this server takes at most 65500 a side" in json.loads(answer.body)["error"]


def test_a_models_own_limit_counts() -> None:
    network = Thresholds()
    network.images.rules = type(network.images.rules)(max_pixels=599)
    with served(network) as (port, _):
        assert predict(port, encoded(IMAGE)).status == 413
        assert json.loads(ask(port, path="/health").body)["max_pixels"] == 599
