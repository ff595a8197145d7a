"""Reader of one numeric array in a MATLAB 5 file, with limits against decompression bombs.

A file is a header of 128 bytes and elements, each with its type and its size. Most elements are
compressed and contain another element. Unpacking stops at the size that this element declares.
"""

import io
import zlib

import numpy as np
import scipy.io

from data_pipelines.errors import DataError
from data_pipelines.safe_io import check_claim

_HEADER, _TAG = 128, 8
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = (
    "double",
    "single",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def read_mat(content: bytes, name: str, file: object) -> np.ndarray:
    """Reads the numeric array of this name.

    Raises:
      KeyError: there is none.
      DataError: the file is not MATLAB 5 or a bomb, or the variable is not numeric.
    """
    plain = _unpacked(content, file)
    try:
        kinds = {kind for found, _, kind in scipy.io.whosmat(io.BytesIO(plain)) if found == name}
        # Checked before loading: scipy allocates the declared size of text variables.
        if kinds.difference(_NUMBERS):
            raise DataError(
                f"expected {name} to hold numbers, got {' and '.join(sorted(kinds))}", file
            )
        return scipy.io.loadmat(io.BytesIO(plain), variable_names=[name])[name]
    except (DataError, KeyError):
        raise
    except Exception as error:  # scipy raises errors of many types
        raise DataError(f"not a readable .mat file ({error})", file) from error


def _unpacked(content: bytes, file: object) -> bytes:
    """The file with uncompressed elements."""
    order = content[126:_HEADER]
    if order not in (b"IM", b"MI"):
        raise DataError("not a readable .mat file (expected one of MATLAB 5 to 7)", file)
    parts, at = [content[:_HEADER]], _HEADER
    while at < len(content):
        kind, size = _tag(content[at : at + _TAG], order, file)
        element = content[at : at + _TAG + size]
        parts.append(_inflated(element[_TAG:], order, file) if kind == _COMPRESSED else element)
        at += _TAG + size
    return b"".join(parts)


def _tag(tag: bytes, order: bytes, file: object) -> tuple[int, int]:
    """Type and size of an element."""
    if len(tag) < _TAG:
        raise DataError("not a readable .mat file (it ends within an element)", file)
    kind, size = np.frombuffer(tag, "<u4" if order == b"IM" else ">u4").tolist()
    return kind, size


def _inflated(packed: bytes, order: bytes, file: object) -> bytes:
    """The element inside a compressed element."""
    stream = zlib.decompressobj()
    try:
        tag = stream.decompress(packed, _TAG)
        kind, size = _tag(tag, order, file)
        if kind != _MATRIX:  # compressed elements could be nested without limit
            raise DataError(f"not a readable .mat file (expected a matrix, got {kind})", file)
        check_claim(size, len(packed), file)
        values = stream.decompress(stream.unconsumed_tail, size + 1)  # 0 would mean no limit
    except zlib.error as error:
        raise DataError(f"not a readable .mat file ({error})", file) from error
    if len(values) != size:
        more = "more" if len(values) > size else f"{len(values)}"
        raise DataError(f"not a readable .mat file (expected {size} bytes, got {more})", file)
    return tag + values
