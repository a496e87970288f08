"""A part of a JPEG has the pixels of the whole, and what had better be decoded whole is left alone."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_seg.data.reading import turbojpeg
from lightning_seg.data.reading.turbojpeg import decode_part, decode_whole

pytestmark = pytest.mark.skipif(turbojpeg._library() is None, reason="libjpeg-turbo 3 is not installed here")

HEIGHT, WIDTH = 133, 181
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
KINDS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
    "restarts": {"restart_marker_blocks": 3},
}


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


FILES = {kind: encoded(**options) for kind, options in KINDS.items()}


def spans(length: int) -> st.SearchStrategy[slice]:
    return (
        st.tuples(st.integers(0, length), st.integers(0, length))
        .map(sorted)
        .filter(lambda ends: ends[0] < ends[1])
        .map(lambda ends: slice(*ends))
    )


@given(kind=st.sampled_from(sorted(FILES)), rows=spans(HEIGHT), columns=spans(WIDTH))
def test_part_has_the_pixels_of_the_whole(kind: str, rows: slice, columns: slice) -> None:
    part = decode_part(FILES[kind], rows, columns)
    assert part is not None
    assert part.shape == (HEIGHT, WIDTH, 3)
    with Image.open(io.BytesIO(FILES[kind])) as image:
        assert np.array_equal(part[rows, columns], np.asarray(image.convert("RGB"))[rows, columns])


MIDDLE = (slice(40, 60), slice(70, 90))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded("CMYK"), id="CMYK"),
        pytest.param(FILES["4:2:0"][:-2], id="without its end"),
        pytest.param(FILES["4:2:0"][: len(FILES["4:2:0"]) // 4] + b"\xff\xd9", id="cut before the rows"),
        pytest.param(b"", id="empty"),
        pytest.param(b"GIF89a\xff\xd9", id="no JPEG"),
    ],
)
def test_others_are_left_to_who_decodes_the_whole(data: bytes) -> None:
    assert decode_part(data, *MIDDLE) is None


def test_without_the_library_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbojpeg, "_library", lambda: None)
    assert decode_part(FILES["4:2:0"], *MIDDLE) is None


def test_an_older_library_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbojpeg.ctypes, "CDLL", lambda name: object())
    assert turbojpeg._library.__wrapped__() is None
