"""Requests at the same time: computed together, refused where they are too many, each with its own end."""

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lightning_seg.errors import DataError
from lightning_seg.serving.service import Limits
from lightning_seg.structures import Batch
from tests.predictors import noise
from tests.serving import Thresholds, ask, encoded, labels_of, predict, served, wait_until

IMAGE = noise(20, 30)


def test_requests_of_one_moment_are_computed_together() -> None:
    network = Thresholds(batch_size=4)
    with served(network) as (port, service), ThreadPoolExecutor(9) as pool:
        network.go.clear()
        images = [noise(10 + index % 3, 12, index) for index in range(9)]
        first = pool.submit(predict, port, encoded(images[0]))
        wait_until(lambda: network.batches == [1])
        others = [pool.submit(predict, port, encoded(image)) for image in images[1:]]
        wait_until(lambda: service._batcher._waiting.qsize() == 8)
        network.go.set()
        for image, answer in zip(images, [first, *others], strict=True):
            assert np.array_equal(answer.result().mask, labels_of(image))
        assert max(network.batches) == 4
        assert sum(network.batches) == 9


def test_too_many_requests_are_told_to_come_again() -> None:
    network = Thresholds()
    with served(network, Limits(max_requests=2)) as (port, service), ThreadPoolExecutor(2) as pool:
        network.go.clear()
        taken = [pool.submit(predict, port, encoded(IMAGE)) for _ in range(2)]
        wait_until(lambda: service.requests == 2)
        answer = predict(port, encoded(IMAGE))
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert json.loads(answer.body)["error"].startswith("2 requests wait for an answer, and no more are taken")
        assert json.loads(ask(port, path="/health").body)["requests"] == 2
        network.go.set()
        assert [each.result().status for each in taken] == [200, 200]
        assert predict(port, encoded(IMAGE)).status == 200


def test_clients_that_go_break_nothing() -> None:
    """One goes while its image is computed, one before it is decoded, one in the middle of its body."""
    network = Thresholds(batch_size=2)
    with served(network) as (port, service), ThreadPoolExecutor(1) as pool:
        network.go.clear()
        service._decoded._value = 1
        data = encoded(IMAGE)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port)) as computing:
            computing.sendall(head + data)
            wait_until(lambda: network.batches == [1])
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            waiting.sendall(head + data)
            with socket.create_connection(("127.0.0.1", port)) as sending:
                sending.sendall(head + data[:10])
                wait_until(lambda: service.requests == 3)
        wait_until(lambda: service.requests == 2)
        stays = pool.submit(predict, port, data)
        wait_until(lambda: service.requests == 3)
        network.go.set()
        assert np.array_equal(stays.result().mask, labels_of(IMAGE))
        wait_until(lambda: service.requests == 0)
        assert network.batches == [1, 1]


def _fails(error: Exception) -> Callable[[Batch], None]:
    def failure(batch: Batch) -> None:
        if any(int(item["image"].sum()) == 0 for item in batch):
            raise error

    return failure


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 413, "too little memory for the image"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 413, "too little memory"),
        (MemoryError(), 413, "too little memory"),
        (DataError("data.eval_transforms cannot crop it"), 422, "data.eval_transforms cannot crop it"),
        (RuntimeError("secret of the network"), 500, "the server failed on this request; its log says why"),
    ],
)
def test_an_image_that_fails_fails_alone(
    error: Exception, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = Thresholds(batch_size=4)
    network.failure = _fails(error)
    with served(network) as (port, service), ThreadPoolExecutor(4) as pool:
        network.go.clear()
        first = pool.submit(predict, port, encoded(IMAGE))
        wait_until(lambda: network.batches == [1])
        images = [noise(8, 8), np.zeros((8, 8, 3), np.uint8), noise(8, 8, 1)]
        answers = [pool.submit(predict, port, encoded(image)) for image in images]
        wait_until(lambda: service._batcher._waiting.qsize() == 3)
        network.go.set()
        first.result()
        assert np.array_equal(answers[0].result().mask, labels_of(images[0]))
        assert np.array_equal(answers[2].result().mask, labels_of(images[2]))
        answer = answers[1].result()
        assert network.batches == [1, 3, 1, 1, 1]
    assert answer.status == status
    assert message in json.loads(answer.body)["error"]
    assert b"secret" not in answer.body
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_requests_that_were_taken_are_answered_at_the_end() -> None:
    network = Thresholds()
    with ThreadPoolExecutor(3) as pool:
        with served(network) as (port, service):
            network.go.clear()
            taken = [pool.submit(predict, port, encoded(IMAGE)) for _ in range(3)]
            wait_until(lambda: service.requests == 3)
        assert [np.array_equal(each.result().mask, labels_of(IMAGE)) for each in taken] == [True] * 3
    assert not service._batcher._thread.is_alive()
