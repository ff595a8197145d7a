"""Pickles that hold data and nothing else: any other is refused before a line of it runs.

numpy's own classes are not handed out either: a pickled dtype can claim that raw bytes are pointers
to objects. Arrays and numbers are rebuilt here, from their bytes and a plain dtype.
"""

import io
import pickle
from typing import Any

import numpy as np

from data_pipelines.errors import DataError

_KINDS = "biufcSU"  # booleans, numbers, text: kinds whose bytes are the values themselves


class _Dtype:
    """Stands in for `numpy.dtype` while unpickling; of its state only the byte order counts."""

    def __init__(self, kind: Any, align: Any = False, copy: Any = False):
        self.dtype = np.dtype(str(kind))
        if self.dtype.kind not in _KINDS or self.dtype.fields or self.dtype.subdtype:
            raise pickle.UnpicklingError(f"an array of {kind!r}, which is no plain data")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for an array while unpickling; `value` is the array."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # Python 2 wrote bytes as text
            raw = raw.encode("latin1")
        self.value = _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without a plain dtype")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order).copy()


def _scalar(dtype: Any, raw: Any) -> Any:
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    return _from_bytes(raw, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    """What older protocols write bytes with."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return str(text).encode("latin1")


_NUMPY = {
    "_reconstruct": lambda *_: _Array(),
    "scalar": _scalar,
}
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "bytearray"): bytearray for module in ("builtins", "__builtin__")},
    **{
        (f"numpy.{core}.multiarray", name): made
        for core in ("core", "_core")
        for name, made in _NUMPY.items()
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_bytes for core in ("core", "_core")},
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): None,  # only ever an argument
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which data has no use for; it may be malicious"
            )
        return _ALLOWED[module, name]


def load_pickle(content: bytes, file: object) -> Any:
    """Unpickles plain containers, strings, numbers and numpy arrays.

    Raises:
      DataError: the pickle is damaged, or asks for anything else; nothing of it was executed.
    """
    try:
        # Python 2 wrote many of these files; its strings are bytes to Python 3.
        loaded = _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
        return _unwrap(loaded, {})
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"not a pickle of plain data ({error})", file) from error


def _unwrap(item: Any, done: dict[int, Any]) -> Any:
    """Puts arrays where their stand-ins are; `done` keeps shared parts shared."""
    if id(item) in done:
        return done[id(item)]
    if isinstance(item, _Array):
        return item.value
    if isinstance(item, _Dtype):
        return item.dtype
    if isinstance(item, dict):
        done[id(item)] = item
        for key, value in list(item.items()):
            item[key] = _unwrap(value, done)
    elif isinstance(item, list):
        done[id(item)] = item
        item[:] = [_unwrap(value, done) for value in item]
    elif isinstance(item, tuple):
        return tuple(_unwrap(value, done) for value in item)
    return item
