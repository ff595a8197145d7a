"""Safe loading of pickles: plain data only; other pickles are refused and no code of theirs runs.

NumPy's classes are not used, since a pickled dtype can declare raw bytes to be pointers to objects.
Arrays and numbers are rebuilt here from their bytes and a plain dtype.

The unpickler is the pure Python one. The C implementation allocates any size that a pickle of a few
bytes declares, and hashes any key, which takes exponential time for nested shared tuples.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.formats.npy import is_vast
from data_pipelines.safe_io import check_parts

_KINDS = "biufcSU"  # booleans, numbers, text: the bytes are the values
_KEY_TYPES = (str, bytes, int, float, complex, np.generic, type(None))


class _Dtype:
    """Replaces `numpy.dtype` while unpickling; uses only the byte order of its state."""

    def __init__(self, kind: Any, align: Any = False, copy: Any = False):
        if not isinstance(kind, str):  # not formatted: its text may be endless
            raise pickle.UnpicklingError(f"a dtype that is named by a {type(kind)}")
        self.dtype = np.dtype(kind)
        if self.dtype.kind not in _KINDS or self.dtype.fields or self.dtype.subdtype:
            raise pickle.UnpicklingError(f"an array of {kind!r}, which is not plain data")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Replaces an array while unpickling; `value` is the array."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # Python 2 wrote bytes as text
            raw = raw.encode("latin1")
        self.value = _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without a plain dtype")
    array = np.frombuffer(raw, dtype.dtype).reshape(shape, order=order).copy()
    if is_vast(array.shape):
        raise pickle.UnpicklingError(f"an array of shape {list(array.shape)}")
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    return _from_bytes(raw, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    """Replaces `codecs.encode`, with which older protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes that are not written as latin1 text")
    return text.encode("latin1")


def _bytearray(content: Any = b"", encoding: Any = "latin1") -> bytearray:
    """Replaces `bytearray`; a number, which would be a length, is refused."""
    if isinstance(content, int):
        raise pickle.UnpicklingError("a bytearray without its bytes")
    return bytearray(_encode(content, encoding) if isinstance(content, str) else content)


def _set(items: Any = ()) -> set:
    _check_keys(items)
    return set(items)


def _check_keys(keys: Any) -> None:
    for key in keys:
        if not isinstance(key, _KEY_TYPES):
            raise pickle.UnpicklingError(f"a key, or an element of a set, that is a {type(key)}")


def _check_replacement(item: Any) -> None:
    if not isinstance(item, _Array | _Dtype):
        raise pickle.UnpicklingError(f"it sets the state of a {type(item)}")


# With the names of Python 2 and 3, and of numpy 1 and 2.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): None,  # only used as an argument
}
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {(_module, "set"): _set, (_module, "bytearray"): _bytearray}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = lambda *_: _Array()
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_bytes


class _DataUnpickler(pickle._Unpickler):
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it needs {module}.{name}, which is not plain data; it may be malicious"
            )
        return _ALLOWED[module, name]


def _check_before(opcode: bytes, check: Callable[[list], None]) -> None:
    """Makes the unpickler check its stack before it executes an opcode."""
    execute = _DataUnpickler.dispatch[opcode[0]]

    def checked(unpickler: Any) -> None:
        check(unpickler.stack)
        execute(unpickler)

    _DataUnpickler.dispatch[opcode[0]] = checked


_check_before(pickle.SETITEM, lambda stack: _check_keys(stack[-2:-1]))
_check_before(pickle.SETITEMS, lambda stack: _check_keys(stack[::2]))
_check_before(pickle.DICT, lambda stack: _check_keys(stack[::2]))
_check_before(pickle.ADDITEMS, _check_keys)
_check_before(pickle.FROZENSET, _check_keys)
_check_before(pickle.BUILD, lambda stack: _check_replacement(stack[-2]))


def load_pickle(content: bytes, file: object) -> Any:
    """Unpickles plain containers, strings, numbers and numpy arrays.

    Raises:
      DataError: the pickle is damaged or contains other objects; none of its code was executed.
    """
    try:
        # Python 2 wrote many of these files; its strings are bytes in Python 3.
        loaded = _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
        check_parts(loaded, len(content))
        return _unwrap(loaded, {})
    except Exception as error:  # a damaged pickle raises errors of many types
        raise DataError(f"not a pickle of plain data ({error})", file) from error


def _unwrap(item: Any, done: dict[int, Any]) -> Any:
    """Replaces `_Array` and `_Dtype` by their values; `done` keeps shared parts shared."""
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
        done[id(item)] = made = tuple(_unwrap(value, done) for value in item)
        return made
    return item
