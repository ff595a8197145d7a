"""Safe reader of npy and npz files: numbers and text, no objects, no larger than the file.

NumPy itself allocates the size that a header declares before it reads the values.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.safe_io import HARMLESS, LARGEST, opened_member

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 2**16  # bytes; headers written by NumPy have 118
_KINDS = "biufcSU"  # booleans, numbers, text
_MAX_EMPTY = 2**20  # maximum product of the other axes of an array with an axis of length 0
_PIECE = 2**20  # bytes of one read


class Header(NamedTuple):
    """The header of an array: shape, memory order and type."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_vast(shape: tuple[int, ...]) -> bool:
    """Whether an array with an axis of length 0 has very long other axes."""
    return 0 in shape and math.prod(size for size in shape if size) > _MAX_EMPTY


def read_header(stream: IO[bytes], room: int, where: object) -> Header:
    """Reads the header of an npy array; the stream is then at the values.

    Args:
      room: maximum number of bytes of the values.

    Raises:
      DataError: the header is invalid, or declares a larger array or an unsupported type.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"unknown version {version}")
        length = stream.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(length, "little")
        if size > _LONGEST_HEADER:
            raise ValueError(f"a header of {size} bytes")
        text = io.BytesIO(length + stream.read(size))
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        header = Header(*read(text))
    except Exception as error:  # numpy parses the header as Python code
        raise DataError(f"not a readable npy array ({error})", where) from error
    kind, shape = header.dtype, list(header.shape)
    if kind.kind not in _KINDS or not kind.itemsize:  # structured types have another kind
        raise DataError(f"not a readable npy array (expected numbers or text, got {kind})", where)
    if header.nbytes > room or min(header.shape, default=0) < 0 or is_vast(header.shape):
        claim = f"it claims to be {shape!s:.99} of {kind}, but has at most {room} bytes"
        raise DataError(f"not a readable npy array ({claim})", where)
    return header


def read_npy(stream: IO[bytes], room: int, where: object) -> np.ndarray:
    """Reads an npy array.

    Args:
      room: maximum number of bytes of the values.

    Raises:
      DataError: see `read_header`; or the array is truncated.
    """
    header = read_header(stream, room, where)
    values = np.empty(header.nbytes, np.uint8)
    view, filled = values.data, 0
    while filled < len(view):
        piece = stream.read(min(_PIECE, len(view) - filled))
        if not piece:
            raise DataError(f"expected {len(view)} bytes of values, got {filled}", where)
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    array = values.view(header.dtype)
    if header.fortran:
        return array.reshape(header.shape[::-1]).transpose()
    return array.reshape(header.shape)


def map_npy(file: Path) -> np.ndarray:
    """Memory-maps an npy file.

    Raises:
      DataError: see `read_header`.
    """
    with file.open("rb") as stream:
        header = read_header(stream, file.stat().st_size, file)
        return map_values(file, header, stream.tell())


def map_values(file: Path, header: Header, offset: int) -> np.ndarray:
    """Memory-maps the values that begin at an offset of a file.

    Raises:
      DataError: the file is truncated.
    """
    try:
        order: Any = "F" if header.fortran else "C"
        return np.memmap(file, header.dtype, "r", offset, header.shape, order)
    except (OSError, ValueError) as error:
        raise DataError(f"not a readable npy array ({error})", file) from error


def read_npz(
    archive: zipfile.ZipFile, name: str, largest: int = LARGEST, harmless: int = HARMLESS
) -> np.ndarray:
    """Reads one array of an npz.

    Args:
      name: name without `.npy`.
      largest, harmless: bytes; see `check_claim`.

    Raises:
      KeyError: no array has this name.
      DataError: it is a decompression bomb, or see `read_header`.
    """
    info = archive.getinfo(f"{name}.npy")
    with opened_member(archive, info, info.filename, largest, harmless) as member:
        return read_npy(member, info.file_size, info.filename)


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays of an npz."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
