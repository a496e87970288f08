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
        pytest.param(b"", id="empty"),
        pytest.param(b"GIF89a\xff\xd9", id="no JPEG"),
    ],
)
def test_others_are_left_to_who_decodes_the_whole(data: bytes) -> None:
    assert decode_part(data, *MIDDLE) is None


@pytest.mark.parametrize("kind", FILES)
def test_damage_before_the_rows_is_an_error(kind: str) -> None:
    data = FILES[kind][: len(FILES[kind]) // 4] + b"\xff\xd9"
    for decode in (lambda: decode_part(data, *MIDDLE), lambda: decode_whole(data), lambda: decode_whole(data, 4)):
        with pytest.raises(ValueError, match="Corrupt JPEG data"):
            decode()


@pytest.mark.parametrize("kind", ["4:2:0", "progressive"])
def test_padding_before_the_end_is_no_damage(kind: str) -> None:
    data = FILES[kind]
    sound = decode_whole(data)
    for padding in (bytes(1), bytes(4), bytes(16)):
        assert np.array_equal(decode_whole(data[:-2] + padding + data[-2:]), sound)
    for left_over in (bytes(64), data[400:420]):
        with pytest.raises(ValueError, match="extraneous bytes before marker 0xd9"):
            decode_whole(data[:-2] + left_over + data[-2:])


def test_oddities_before_the_pixels_are_left_to_others() -> None:
    """Some bytes too many between segments are passed over by every library."""
    data = FILES["4:2:0"]
    assert decode_whole(data[:20] + b"odd" + data[20:]) is None


def test_without_the_library_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbojpeg, "_library", lambda: None)
    assert decode_part(FILES["4:2:0"], *MIDDLE) is None
    assert decode_whole(FILES["4:2:0"]) is None


def test_an_older_library_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbojpeg.ctypes, "CDLL", lambda name: object())
    assert turbojpeg._library.__wrapped__() is None
