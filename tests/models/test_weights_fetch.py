"""Sources: paths, addresses and caches, hashes in names, and what is said without a network."""

import hashlib
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights import fetch as module
from lightning_seg.models.weights.fetch import cache_path, check_hash, fetch_weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def urlopen(*_: Any, **__: Any) -> Any:
        raise URLError("no network in tests")

    monkeypatch.setattr(module, "urlopen", urlopen)
    return tmp_path / "cache"


def test_paths_may_have_a_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pth"
    path.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    assert fetch_weights("~/w.pth") == path
    assert fetch_weights("$WEIGHTS/w.pth") == path
    with pytest.raises(CheckpointError, match=rf"weights ~/none\.pth do not exist \({tmp_path}/none\.pth\)"):
        fetch_weights("~/none.pth")


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"s3://x are of an unknown kind: give a path, https://…"):
        fetch_weights("s3://x")


@pytest.mark.parametrize(
    ("source", "url", "place"),
    [
        (
            "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
            "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
            "detectron2/ImageNetPretrained/MSRA/R-50.pkl",
        ),
        ("https://a.example/b/c.pth?key=1", "https://a.example/b/c.pth?key=1", "b/c.pth?key=1"),
        ("https://a.example/c.pth", "https://a.example/c.pth", "c.pth"),
    ],
)
def test_without_a_network_the_error_names_the_file(cache: Path, source: str, url: str, place: str) -> None:
    begin = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        fetch_weights(source)
    assert time.monotonic() - begin < 5
    said = str(caught.value)
    assert f"download {url} elsewhere and put it at {cache / place}" in said
    assert "no network in tests" in said
    assert "--model.weights FILE" in said
    assert '--model.weights ""' in said
    (cache / place).parent.mkdir(parents=True, exist_ok=True)
    (cache / place).write_bytes(b"x")
    assert fetch_weights(source) == cache / place  # where it said


def test_the_cache_is_where_iopath_looks(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iopath.common.file_io import HTTPURLHandler

    def urlretrieve(url: str, filename: str, **_: Any) -> tuple[str, None]:
        Path(filename).write_bytes(b"x")
        return filename, None

    monkeypatch.setattr(urllib.request, "urlretrieve", urlretrieve)
    for url in ("https://a.example/b/c/d.pkl", "https://a.example/d.pth?x=1", "http://a.example:80/b/d.pth"):
        assert cache_path(url) == Path(HTTPURLHandler()._get_local_path(url))


def test_a_server_that_answers_is_asked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is up but has no such file: the download's own error is told."""
    from detectron2.utils.file_io import PathManager

    monkeypatch.setattr(module, "_out_of_reach", lambda url: None)

    def get(url: str) -> str:
        raise OSError("HTTP Error 404: Not Found")

    monkeypatch.setattr(PathManager, "get_local_path", get)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded \(HTTP Error 404"):
        fetch_weights("https://a.example/b.pth")


def test_a_server_that_hangs_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    monkeypatch.setattr(module, "urlopen", lambda *_, **__: time.sleep(3))
    begin = time.monotonic()
    with pytest.raises(CheckpointError, match=r"no answer in 0\.2 s"):
        fetch_weights("https://a.example/b.pth")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("name", "algorithm", "digits"),
    [("model_final_{}.pkl", "md5", 6), ("resnet18-{}.pth", "sha256", 8), ("a-{}.safetensors", "sha256", 64)],
)
def test_hashes_in_names_are_checked(tmp_path: Path, name: str, algorithm: str, digits: int) -> None:
    content = b"weights"
    digest = hashlib.new(algorithm, content).hexdigest()[:digits]
    right, wrong = tmp_path / name.format(digest), tmp_path / name.format("0" * digits)
    right.write_bytes(content)
    wrong.write_bytes(content)
    assert fetch_weights(str(right)) == right
    with pytest.raises(CheckpointError, match=f"{algorithm} begins with {digest}, its name says 0+: delete the file"):
        fetch_weights(str(wrong))


def test_a_cached_file_is_checked_too(cache: Path) -> None:
    source = "detectron2://ImageNetPretrained/x_123abc.pkl"
    path = cache / "detectron2/ImageNetPretrained/x_123abc.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="md5 begins with"):
        fetch_weights(source)


@pytest.mark.parametrize("name", ["run-20260131.pth", "R-50.pkl", "model_0005000.pth", "best-epoch.pth", "a-1234.pth"])
def test_names_without_a_hash_are_not_checked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    check_hash(tmp_path / name)


def test_timm_without_a_network_names_file_and_place(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("timm")
    begin = time.monotonic()
    with caplog.at_level("INFO"), pytest.raises(CheckpointError) as caught:
        fetch_weights("timm://resnet18.a1_in1k")
    assert time.monotonic() - begin < 15  # importing timm
    place = cache / "timm/resnet18.a1_in1k.safetensors"
    url = "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    assert f"download {url} elsewhere and put it at {place}" in str(caught.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    assert fetch_weights("timm://resnet18.a1_in1k") == place
    with pytest.raises(CheckpointError, match=r"timm has no pretrained weights resnet1818; did you mean resnet18"):
        fetch_weights("timm://resnet1818")
