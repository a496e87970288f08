"""Images in, label maps out; what is wrong is said with a status of 4xx."""

import io
import json
from base64 import b64decode
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from lightning_seg.serving.service import Limits
from tests.predictors import noise
from tests.serving import NAMES, Thresholds, ask, encoded, labels_of, predict, served

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
