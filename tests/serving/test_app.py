"""Images in, label maps out; what is wrong is said with a status of 4xx; nothing is held without a limit."""

import io
import json
import resource
import socket
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.errors import DataError
from lightning_seg.serving import requests
from lightning_seg.serving.service import Limits
from lightning_seg.structures import Batch
from tests.serving import NAMES, Thresholds, ask, bomb, encoded, labels_of, noise, predict, served, wait_until

IMAGE = noise(20, 30)
LIMITS = Limits(max_bytes=200_000, max_pixels=10_000, max_requests=128)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(Thresholds(), LIMITS) as (port, _):
        yield port


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "PPM"])
def test_a_png_of_the_label_map_in_the_models_colours(port: int, form: str) -> None:
    answer = predict(port, encoded(IMAGE, form))
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(answer.mask, labels_of(IMAGE))
    assert len(np.unique(answer.mask)) == 3
    palette = Image.open(io.BytesIO(answer.body)).getpalette()
    assert palette is not None
    colours = [tuple(palette[3 * index : 3 * index + 3]) for index in range(3)]
    assert colours == [tuple(colour) for colour in Thresholds().images.info.palette]


def test_turned_jpegs_are_read_as_predict_reads_them(port: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(IMAGE, "JPEG", exif=exif)
    upright = np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1)
    assert np.array_equal(predict(port, data).mask, labels_of(upright))


def test_json_says_the_same(port: int) -> None:
    answer = predict(port, encoded(IMAGE), Accept="application/json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    given = json.loads(answer.body)
    assert given.keys() == {"width", "height", "class_names", "palette", "pixels", "mask"}
    assert (given["width"], given["height"], given["class_names"]) == (30, 20, list(NAMES))
    assert given["pixels"] == [int((labels_of(IMAGE) == index).sum()) for index in range(3)]
    assert given["palette"] == [list(colour) for colour in Thresholds().images.info.palette]
    assert b64decode(given["mask"]) == predict(port, encoded(IMAGE)).body


def test_a_jpeg_of_the_overlay(port: int) -> None:
    answer = predict(port, encoded(IMAGE), Accept="text/html, image/jpeg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.body)).size == (30, 20)


def test_a_jpeg_of_what_is_read(port: int) -> None:
    """Of what no browser shows, such as a TIFF; large areas keep their colour."""
    image = np.full((40, 60, 3), (200, 30, 90), np.uint8)
    answer = ask(port, "POST", "/picture", encoded(image, "TIFF"))
    assert answer.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(answer.body))).astype(int)
    assert shown.shape == image.shape
    assert abs(shown - image).max() < 4
    assert ask(port, "POST", "/picture", b"no image").status == 400
    assert ask(port, "POST", "/picture", bytes(200_001)).status == 413


def test_more_classes_than_a_palette_holds() -> None:
    names = tuple(f"class {index}" for index in range(300))
    with served(Thresholds(names=names)) as (port, _):
        answer = predict(port, encoded(IMAGE))
        assert answer.mask.dtype.itemsize > 1
        assert np.array_equal(answer.mask, labels_of(IMAGE))
        assert len(json.loads(predict(port, encoded(IMAGE), Accept="application/json").body)["pixels"]) == 300


def test_health(port: int) -> None:
    answer = ask(port, path="/health")
    assert answer.status == 200
    given = json.loads(answer.body)
    assert given == {
        "status": "ready", "model": "thresholds", "device": "cpu", "class_names": list(NAMES), "batch_size": 1,
        "max_bytes": 200_000, "max_pixels": 10_000, "max_requests": 128, "requests": 0,
    }  # fmt: skip
    assert ask(port, "HEAD", "/health").status == 200


def animation() -> bytes:
    frames = [Image.fromarray(noise(9, 9, seed)) for seed in range(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"no image", {}, 400, "image that you sent cannot be read (it is none of JPEG, PNG"),
        (encoded(IMAGE)[:-200], {}, 400, "image that you sent cannot be read ("),
        (encoded(IMAGE, "JPEG")[:-200], {}, 400, "image that you sent cannot be read ("),
        (b"", {}, 400, "the body is empty: send the bytes of one image file as the body"),
        (animation(), {}, 422, "image that you sent has 2 pages, and one is expected"),
        (encoded(np.full((9, 9), 4000, np.uint16)), {}, 422, "you sent has 1 band of uint16 with values from 4000"),
        (encoded(noise(101, 100)), {}, 413, "the image is 100×101 pixels, and this server takes at most 10000"),
        (bytes(200_001), {}, 413, "the body has 200001 bytes, and this server takes at most 200000"),
        (b"--x", {"Content_Type": "multipart/form-data; boundary=x"}, 415, "the body is a form (multipart/form-data)"),
        (b"x", {"Content_Encoding": "gzip"}, 415, "the body has Content-Encoding gzip, which is not taken"),
        (encoded(IMAGE), {"Accept": "text/html"}, 406, "answers are image/png, application/json, image/jpeg"),
    ],
    ids=[
        "text", "cut PNG", "cut JPEG", "empty", "pages", "16 bits", "pixels", "bytes", "form", "gzip", "accept"
    ],
)  # fmt: skip
def test_bad_input_is_refused(port: int, body: bytes, headers: dict[str, str], status: int, message: str) -> None:
    answer = predict(port, body, **headers)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    (error,) = json.loads(answer.body).values()
    assert message in error
    assert "Traceback" not in error
    assert np.array_equal(predict(port, encoded(IMAGE)).mask, labels_of(IMAGE))  # and the next one is served


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM"])
def test_damaged_files_are_no_failure_of_the_server(port: int, form: str) -> None:
    """Whatever bytes are changed or missing, the status is no 5xx."""
    random = np.random.default_rng(0)
    original = np.frombuffer(encoded(IMAGE, form), np.uint8)
    statuses = set()
    for _ in range(30):
        data = original.copy()
        places = random.integers(0, len(data) if random.random() < 0.5 else min(64, len(data)), 3)
        data[places] = random.integers(0, 256, 3)
        statuses.add(predict(port, data[: random.integers(len(data) // 2, len(data) + 1)].tobytes()).status)
    assert statuses <= {200, 400, 413, 422}
    assert 400 in statuses


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/docs", 404, None),  # FastAPI's page, which fetches scripts from elsewhere
        ("GET", "/openapi.json", 404, None),
        ("POST", "/predict/", 404, None),
        ("GET", "/../../etc/passwd", 404, None),
        ("GET", "/predict", 405, "POST"),
        ("GET", "/picture", 405, "POST"),
        ("PUT", "/predict", 405, "POST"),
        ("DELETE", "/", 405, "GET"),
        ("OPTIONS", "/predict", 405, "POST"),  # which a browser asks before a page of another site may send
    ],
)
def test_other_routes(port: int, method: str, path: str, status: int, allowed: str | None) -> None:
    answer = ask(port, method, path)
    assert answer.status == status
    assert "POST /predict takes an image" in json.loads(answer.body)["error"]
    assert (allowed or "") in answer.headers.get("allow", "")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/health", "/nowhere"])
def test_every_answer_has_the_headers_of_safety(port: int, path: str) -> None:
    headers = ask(port, path=path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


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


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """200 megapixels in a small file take neither their memory nor their time."""
    data = bomb(20_000, 10_000)
    assert len(data) < 2**20
    with served(Thresholds()) as (port, _):
        assert np.array_equal(predict(port, bomb(30, 200)).mask, np.zeros((200, 30)))  # it is a PNG like any other
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        answer = predict(port, data)
        assert time.monotonic() - start < 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB; decoded it has 600 MB
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


def _fails(error: Exception) -> Any:
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
