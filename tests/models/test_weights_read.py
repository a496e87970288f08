"""Files of weights: no file runs code, takes more memory than it has bytes, or fails without a reason."""

import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights.pickles import Array, load_arrays
from lightning_seg.models.weights.read import read_weights


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("evil"),))  # type: ignore[return-value]


class Call:
    """A pickle that calls something with these arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(path, str(path)).tensors


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"model": {"a": np.zeros(1), "b": evil}}])
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".ckpt", ".pyth"])
def test_no_file_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, wrap: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"w{suffix}"
    data = wrap(Evil())
    path.write_bytes(pickle.dumps(data)) if suffix == ".pkl" else torch.save(data, path)
    with pytest.raises(CheckpointError, match=r"cannot be read: it asks for [\w.]+"):
        read(path)
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("pickled", "name"),
    [
        (b"cposix\nsystem\n(Vtouch evil\ntR.", "posix.system"),
        (b"(Vtouch evil\niposix\nsystem\n.", "posix.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0atouch evil\x85R.", "posix.system"),
        (b"cbuiltins\neval\n(V1\ntR.", "builtins.eval"),
        (b"c__builtin__\neval\n(V1\ntR.", "__builtin__.eval"),
        (b"cnumpy\nload\n(Vevil\ntR.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.type.mro\x93.", "numpy.dtype.type.mro"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pickled: bytes, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pkl"
    path.write_bytes(pickled)
    with pytest.raises(CheckpointError, match=f"it asks for {name}, which no file of arrays needs"):
        read(path)
    assert not Path("evil").exists()


def test_only_latin1_is_a_codec() -> None:
    with pytest.raises(pickle.UnpicklingError, match="asks for the codec 'zip'"):
        load_arrays(b"c_codecs\nencode\n(Vx\nVzip\ntR.")


def array_pickle(shape: tuple[int, ...], code: str, raw: bytes | list[Any], protocol: int = 4) -> bytes:
    """A pickle of one array with any shape, as NumPy writes it."""
    stored = np.zeros(1)
    reconstruct, arguments, _ = stored.__reduce__()  # type: ignore[misc]
    state = (1, shape, np.dtype(code), False, raw)
    return pickle.dumps({"a": _Reduced(reconstruct, arguments, state)}, protocol)


class _Reduced:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def bomb(name: str) -> bytes:  # noqa: PLR0911
    many = 3 * 2**30
    match name:
        case "shape":
            return array_pickle((many,), "<f4", b"")
        case "overflow":
            return array_pickle((2**40, 2**40), "<f4", b"")
        case "negative":
            return array_pickle((-1, -1), "<f4", b"1234")
        case "objects":
            return array_pickle((many,), "O", [])
        case "reconstruct":  # allocates when NumPy runs it, before any state; here it must not
            return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I3221225472\ntVf4\ntR."
        case "ndarray":
            return b"cnumpy\nndarray\n(I3221225472\ntR."
        case "scalar":
            return pickle.dumps(Call(np.dtype, "V3221225472"))
        case "buffer":
            return pickle.dumps(Call(_from_buffer(), b"1234", np.dtype("f4"), (many,), "C"))
        case "memo":
            return b"\x80\x02Nr\xff\xff\xff\x3f."
        case "text":
            return b"\x80\x04\x8d" + struct.pack("<Q", 12 * 2**30) + b"x."
        case "bytes":
            return b"\x80\x05\x96" + struct.pack("<Q", 12 * 2**30) + b"x."
        case "repeated":  # 100 kB of text, turned to bytes 1000 times
            text = b"X" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x01X\x06\0\0\0latin1q\x02"
            return b"\x80\x02c_codecs\nencode\nq\x00" + text + b"]q\x03(" + b"h\x00h\x01h\x02\x86R" * 1000 + b"e."
    raise ValueError(name)


def _from_buffer() -> Any:
    return np.zeros(1).__reduce_ex__(5)[0]


@pytest.mark.parametrize(
    "name",
    ["shape", "overflow", "negative", "objects", "ndarray", "scalar", "buffer", "memo", "text", "bytes", "repeated"],
)
def test_a_pickle_that_declares_more_than_it_holds_is_refused_without_allocating(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(bomb(name))
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"cannot be read: "):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * size + 2**20


def test_an_array_without_contents_allocates_nothing() -> None:
    found = load_arrays(bomb("reconstruct"))
    assert isinstance(found, Array)
    assert found.value is None


@pytest.mark.parametrize(
    ("protocol", "old"), [(number, False) for number in range(6)] + [(number, True) for number in range(3)]
)
def test_arrays_of_every_kind_are_read(tmp_path: Path, protocol: int, old: bool) -> None:
    arrays = {
        "f4": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "strided": np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(2, 0, 1),
        "big": np.arange(3, dtype=">f8"),
        "bool": np.array([True, False]),
        "half": np.array([1.5], dtype=np.float16),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "none": np.array(7, dtype=np.int64),
        "scalar": np.float64(0.25),
        "bytes": np.arange(256, dtype=np.uint8),
    }
    if protocol < 3:  # then Python writes empty bytes as a call of bytes, which is not admitted
        del arrays["empty"]
    data = pickle.dumps({"model": OrderedDict(arrays), "__author__": "x"}, protocol)
    if old:
        data = data.replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "w.pkl"
    path.write_bytes(data)
    found = read(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(found[name].numpy(), array), name
        assert found[name].numpy().dtype == array.dtype.newbyteorder("="), name


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Written by hand as ``cPickle.dumps({'w': numpy.array([1, 200], 'u1')}, 2)`` of Python 2 does."""
    pickled = (
        b"\x80\x02}q\x01U\x01wcnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x02\x01\xc8tbs."
    )
    path = tmp_path / "w.pkl"
    path.write_bytes(pickled)
    assert read(path)["w"].tolist() == [1, 200]


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".pyth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, damage: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"w{suffix}"
    tensors = {"a": torch.zeros(100)}
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"a": np.zeros(100)}))
    elif suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"<!DOCTYPE html>"}[damage])
    expected = "is empty: delete it" if damage == "empty" else r"cannot be read: .*\w"
    with pytest.raises(CheckpointError, match=expected):
        read(path)


def test_a_program_is_refused_without_torchs_advice_to_run_it(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"cannot be read: it is a program of TorchScript, not a dict of tensors$"
    ):
        read(tmp_path / "w.pth")


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="hold no tensor"):
        read(tmp_path / "w.pth")
    torch.save(torch.zeros(3), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds a Tensor, but a dict"):
        read(tmp_path / "w.pth")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(CheckpointError, match="hold a list, but a dict"):
        read(tmp_path / "w.pkl")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": 3, "__author__": "x"}))
    with pytest.raises(CheckpointError, match="hold a int, but a dict"):
        read(tmp_path / "w.pkl")
