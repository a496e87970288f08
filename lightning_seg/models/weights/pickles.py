"""Reads pickles of arrays, without running NumPy's or anybody's code on what the file declares.

A method here answers every name that such a pickle may ask for, and checks its arguments: an array must bring exactly
the bytes that its shape and type declare, and no bytes may be used again and again.
"""

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPE_CODE = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248])")
_COPIES = 2
"""How many times its own size a file may be copied: texts to bytes, then bytes to arrays."""


def load_arrays(data: bytes) -> Any:
    """Read a pickle that may hold arrays, texts, numbers, and dicts, lists and tuples of them.

    Args:
        data: the whole file, by Python 2 or 3, any protocol, NumPy 1 or 2.

    Returns:
        What was stored; every array and every NumPy scalar is an ``Array``.

    Raises:
        pickle.UnpicklingError: if the file asks for anything else, or declares more data than it holds.
        Exception: whatever a damaged pickle makes Python raise.
    """
    _refuse_large_memo(data)
    return _ArrayUnpickler(data).load()


class Array:
    """Replaces a pickle's ``numpy.ndarray``; ``value`` is None until the file brings the contents."""

    __slots__ = ("_read", "value")

    def __init__(self, read: Callable[..., NDArray[Any]]) -> None:
        self._read = read
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, raw = state[-4:]
        self.value = self._read(raw, dtype, shape, "F" if is_fortran else "C")


class _Dtype:
    """Replaces a pickle's ``numpy.dtype``: a type of numbers."""

    __slots__ = ("value",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"it declares an array of type {str(code)[:40]!r}, but numbers are expected")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, fields = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields):
            raise pickle.UnpicklingError("it declares an array of records, but numbers are expected")
        self.value = self.value.newbyteorder(order)


class _ArrayUnpickler(pickle.Unpickler):
    """Answers with bound methods and texts: a pickle could set attributes of a class or a function."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._left = _COPIES * len(data)
        self._globals: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): self._encode,
            ("numpy", "ndarray"): "numpy.ndarray",  # only an argument of _reconstruct
            ("numpy", "dtype"): self._dtype,
        }
        for core in ("numpy.core", "numpy._core"):  # of NumPy 1 and 2
            self._globals[core + ".multiarray", "_reconstruct"] = self._reconstruct
            self._globals[core + ".multiarray", "scalar"] = self._scalar
            self._globals[core + ".numeric", "_frombuffer"] = self._from_buffer

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._globals[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of arrays needs") from None

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"it asks for the codec {str(encoding)[:40]!r}, but arrays need only latin1")
        self._take(len(text))
        return text.encode("latin1")

    def _dtype(self, code: Any, *flags: Any) -> _Dtype:
        return _Dtype(code)

    def _reconstruct(self, kind: Any, shape: Any, code: Any) -> Array:
        return Array(self._read)

    def _scalar(self, dtype: _Dtype, raw: bytes) -> Array:
        return self._from_buffer(raw, dtype, (), "C")

    def _from_buffer(self, raw: Any, dtype: _Dtype, shape: Any, order: str, axes: Any = None) -> Array:
        array = Array(self._read)
        value = self._read(raw, dtype, shape, "F" if order == "F" else "C")
        array.value = value if axes is None else value.transpose(axes)
        return array

    def _read(self, raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
        if isinstance(raw, str):  # by Python 2
            raw = raw.encode("latin1")
        size = math.prod(shape) * dtype.value.itemsize
        if min(shape, default=0) < 0 or size != len(raw):
            raise pickle.UnpicklingError(
                f"it declares an array of shape {tuple(shape)} and type {dtype.value}, which is {size} bytes, "
                f"and brings {len(raw)}"
            )
        self._take(size)
        view: NDArray[Any] = np.ndarray(shape, dtype.value, buffer=raw, order=order)
        return view.astype(dtype.value.newbyteorder("="), order="C")  # a copy, which may be written to

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise pickle.UnpicklingError("it declares more data than the file holds")


def _refuse_large_memo(data: bytes) -> None:
    """Refuse a text or a memo that is larger than the file can fill: Python would allocate it before it reads on.

    Raises:
        pickle.UnpicklingError: if a memo index exceeds the number of instructions before it.
        ValueError: if the pickle is damaged.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"it declares a table of {argument} objects, of which it brought {count}")
