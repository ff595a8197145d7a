"""Arrays in npy and npz files: numbers and text, no objects, no more than there are bytes for.

numpy believes what the first bytes of an array say, and asks for that much memory before it reads.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from data_pipelines.safe_io import HARMLESS, LARGEST, opened_member
from data_pipelines.errors import DataError

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 2**16  # bytes; numpy's own have 118
_KINDS = "biufcSU"  # booleans, numbers, text
_EMPTY = 2**20  # an array of nothing may still claim to have so many rows
_PIECE = 2**20  # bytes that are read at a time


class Header(NamedTuple):
    """What the first bytes of an array say: its shape, its order and its type."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_vast(shape: tuple[int, ...]) -> bool:
    """Whether an array without a single value is one of countless rows."""
    return 0 in shape and math.prod(size for size in shape if size) > _EMPTY


def read_header(stream: IO[bytes], room: int, where: object) -> Header:
    """The header at the beginning of an npy array; the values come next.

    Args:
      room: bytes that the values can have.

    Raises:
      DataError: it is none, or of an array that is not read here, or too large.
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
    except Exception as error:  # numpy parses it as Python, which can fail in any way
        raise DataError(f"not a readable npy array ({error})", where) from error
    kind, shape = header.dtype, list(header.shape)
    if kind.kind not in _KINDS or not kind.itemsize:  # also structures of them
        raise DataError(f"not a readable npy array (expected numbers or text, got {kind})", where)
    if header.nbytes > room or min(header.shape, default=0) < 0 or is_vast(header.shape):
        claim = f"it claims to be {shape!s:.99} of {kind}, where {room} bytes can be"
        raise DataError(f"not a readable npy array ({claim})", where)
    return header


def read_npy(stream: IO[bytes], room: int, where: object) -> np.ndarray:
    """An npy array.

    Args:
      room: bytes that the values can have.

    Raises:
      DataError: see `read_header`; or it ends too soon.
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
    """An npy file as an array that stays on disk.

    Raises:
      DataError: see `read_header`.
    """
    with file.open("rb") as stream:
        header = read_header(stream, file.stat().st_size, file)
        return map_values(file, header, stream.tell())


def map_values(file: Path, header: Header, offset: int) -> np.ndarray:
    """The values behind a header, somewhere in a file.

    Raises:
      DataError: the file ends before them.
    """
    try:
        order: Any = "F" if header.fortran else "C"
        return np.memmap(file, header.dtype, "r", offset, header.shape, order)
    except (OSError, ValueError) as error:
        raise DataError(f"not a readable npy array ({error})", file) from error


def read_npz(
    archive: zipfile.ZipFile, name: str, largest: int = LARGEST, harmless: int = HARMLESS
) -> np.ndarray:
    """One array of an npz.

    Args:
      name: without `.npy`.
      largest, harmless: bytes; see `check_claim`.

    Raises:
      KeyError: there is none of this name.
      DataError: it is a bomb, or not an array that is read here; names the member.
    """
    info = archive.getinfo(f"{name}.npy")
    with opened_member(archive, info, info.filename, largest, harmless) as member:
        return read_npy(member, info.file_size, info.filename)


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays of an npz."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
