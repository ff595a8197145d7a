"""Files of unknown origin: none executes, writes, or leads out of its folder, and sizes are capped.

All readers of such files use this module. docs/security.md has the promises and their tests.
"""

import io
import json
import math
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.io
import yaml

from data_pipelines.errors import DataError

LARGEST = 2**28  # bytes of one recording when unpacked; an hour of PKU-MMD's text has 2 * 10^8
LARGEST_PART = 2**30  # bytes of the clips of a part of a dataset
HARMLESS = 2**24  # bytes that any archive may unpack to
MOST_EXPANSION = 200  # unpacked bytes per byte of an archive: real ones have 1 to 5, bombs 1000
_MOST_EMPTY = 2**20  # product of the other axes of an array with an axis of length 0
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # unpacked in bounded pieces
_KINDS = "biufcSU"  # numbers and text


@contextmanager
def readable(what: str, where: object) -> Iterator[None]:
    """Turns any error of a reader into a DataError: libraries raise errors of many types."""
    try:
        yield
    except (DataError, FileNotFoundError):
        raise
    except Exception as error:
        mark = getattr(error, "problem_mark", None)  # of YAML
        line = mark.line + 1 if mark else getattr(error, "lineno", None)  # of JSON
        reason = getattr(error, "problem", None) or f"{error}" or type(error).__name__
        raise DataError(f"not a readable {what} ({reason})", where, line) from error


def inside(folder: Path, path: Path) -> Path:
    """The path, if it is in the folder and has a name in UTF-8.

    Raises:
      DataError: it is outside, also by a link; or it is a device, a pipe, or a link to nothing.
    """
    with readable("file name", path):
        str(path).encode()
        real = path.resolve()
        if not real.is_relative_to(folder.resolve()):
            raise DataError(f"expected a file in {folder}, not a way out of it", path)
        if (real.exists() or path.is_symlink()) and not (real.is_file() or real.is_dir()):
            raise DataError("expected a regular file", path)
    return path


def open_zip(file: Path | IO[bytes], where: object = None) -> zipfile.ZipFile:
    """Opens a zip whose members declare a total size within the limits.

    Raises:
      DataError: it is a decompression bomb, damaged, or packed by a method other than deflate.
    """
    with readable("zip archive", where or file):
        archive = zipfile.ZipFile(file)
        packed = archive.fp.seek(0, io.SEEK_END)  # type: ignore[union-attr]
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > max(HARMLESS, MOST_EXPANSION * packed):
            raise ValueError(f"{packed} bytes unpack to {unpacked}: it may be a decompression bomb")
        if others := {member.compress_type for member in archive.infolist()} - _METHODS:
            raise ValueError(f"packed by method {min(others)}: expected deflated or stored")
        return archive


def read_member(archive: zipfile.ZipFile, name: str, where: object) -> bytes:
    """The bytes of a member, at most its declared size.

    Raises:
      DataError: there is none, it is damaged, or it declares more than `LARGEST` bytes.
    """
    with readable("member of a zip archive", where):
        info = archive.getinfo(name)
        if info.file_size > LARGEST:
            raise ValueError(f"expected at most {LARGEST} bytes when unpacked, {info.file_size}")
        with archive.open(info) as member:
            return member.read(info.file_size)  # without a size, it would unpack more


def _header(stream: IO[bytes], room: int) -> tuple[tuple[int, ...], np.dtype, Any]:
    """Shape, type and memory order of an npy array; the stream is then at the values."""
    if np.lib.format.read_magic(stream) != (1, 0):  # later versions are for structured types
        raise ValueError("expected version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in _KINDS:
        raise ValueError(f"expected numbers or text, got {dtype}")
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"a shape of {shape}")
    claimed = math.prod(max(side, 1) for side in shape) * max(dtype.itemsize, 1)
    if claimed > max(room, _MOST_EMPTY):
        raise ValueError(f"it claims to be {list(shape)} of {dtype}, but has at most {room} bytes")
    return shape, dtype, "F" if fortran else "C"


def _array(stream: IO[bytes], room: int) -> np.ndarray:
    shape, dtype, order = _header(stream, room)
    values = stream.read(math.prod(shape) * dtype.itemsize)
    return np.atleast_1d(np.ndarray(shape, dtype, values, order=order))


def read_npy(stream: IO[bytes], room: int, where: object) -> np.ndarray:
    """Reads an npy array of numbers or text, never objects; a single number is an array `[1]`.

    Args:
      room: maximum number of bytes of the values.

    Raises:
      DataError: it is no such array, is truncated, or declares more bytes.
    """
    with readable("npy array", where):
        return _array(stream, room)


def map_npy(file: Path, offset: int = 0) -> np.ndarray:
    """Memory-maps the npy array that begins at an offset of a file; see `read_npy`."""
    with readable("npy array", file), file.open("rb") as stream:
        stream.seek(offset)
        shape, dtype, order = _header(stream, file.stat().st_size)
        return np.atleast_1d(np.memmap(file, dtype, "r", stream.tell(), shape, order))


def array_names(file: Path | IO[bytes], where: object = None) -> list[str]:
    """The names of the arrays of an npz; empty for other files.

    Raises:
      DataError: see `open_zip`.
    """
    if not zipfile.is_zipfile(file):
        return []
    with open_zip(file, where) as archive:
        names = archive.namelist()
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_npz(
    file: Path | IO[bytes], names: Iterable[str], where: object = None
) -> dict[str, np.ndarray]:
    """The arrays of an npz with these names; an uncompressed one above `LARGEST` is mapped.

    Raises:
      DataError: one is missing, or see `open_zip` and `read_npy`.
    """
    arrays = {}
    with open_zip(file, where) as archive:
        for name in names:
            with readable(f"npz, array {name}", where or file):
                info = archive.getinfo(f"{name}.npy")
                stored = info.compress_type == zipfile.ZIP_STORED
                if stored and info.file_size > LARGEST and isinstance(file, Path):
                    arrays[name] = map_npy(file, _begin(file, info))
                    continue
                with archive.open(info) as member:
                    arrays[name] = _array(member, info.file_size)
    return arrays


def _begin(file: Path, info: zipfile.ZipInfo) -> int:
    """Offset of a member's bytes: after its header (30 bytes), its name and its extra field."""
    with file.open("rb") as stream:
        stream.seek(info.header_offset + 26)
        return info.header_offset + 30 + int(np.frombuffer(stream.read(4), "<u2").sum())


def read_mat(content: bytes, name: str, file: object) -> np.ndarray:
    """Reads a numeric array of a MATLAB file (versions 5 to 7).

    Raises:
      DataError: the file is damaged or so large that it could unpack to more than `LARGEST`, or it
        has no numbers of this name.
    """
    with readable(".mat file", file):
        if len(content) > LARGEST // 1024:  # deflate expands to 1032 times
            raise ValueError(f"expected at most {LARGEST // 1024} bytes, got {len(content)}")
        # SciPy allocates the declared size of text variables.
        kinds = {kind for key, _, kind in scipy.io.whosmat(io.BytesIO(content)) if key == name}
        if not kinds or not all(re.fullmatch(r"double|single|u?int\d+", kind) for kind in kinds):
            raise ValueError(f"expected a variable {name} of numbers, got {sorted(kinds)}")
        return scipy.io.loadmat(io.BytesIO(content), variable_names=[name])[name]


class _Dtype:
    """Stands for `numpy.dtype`, a pickled state of which can declare bytes to be pointers."""

    def __init__(self, kind: Any, *_: Any):
        if not isinstance(kind, str) or np.dtype(kind).kind not in _KINDS:
            raise pickle.UnpicklingError("an array that is not plain data")
        self.plain = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray):
    def __setstate__(self, state: tuple) -> None:  # type: ignore[override]
        _, shape, dtype, fortran, raw = state
        super().__setstate__((1, shape, dtype.plain, fortran, raw))


def _buffer(raw: Any, dtype: _Dtype, shape: Any, order: Any) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as text
    return np.frombuffer(raw, dtype.plain).reshape(shape, order=order)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): None,  # only an argument
}
# The names of Python 2 and 3, and of numpy 1 and 2.
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {(_module, "set"): set, (_module, "bytes"): bytes}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = lambda *_: np.zeros(0).view(_Array)
    _ALLOWED[f"{_core}.multiarray", "scalar"] = lambda dtype, raw: _buffer(raw, dtype, (), "C")[()]
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            needed = f"it needs {module}.{name}, which is not plain data"
            raise pickle.UnpicklingError(f"{needed}; it may be malicious")
        made = _ALLOWED[module, name]
        return lambda *arguments: made(*arguments)  # a new one: a pickle may change what it gets


def load_pickle(file: Path) -> Any:
    """Unpickles containers, text, numbers and arrays; it may use much memory, executes nothing.

    Raises:
      DataError: the pickle is damaged or contains other objects.
    """
    with readable("pickle of plain data", file), file.open("rb") as stream:
        return _Unpickler(stream, encoding="latin1").load()  # Python 2 wrote many of these files


def load_json(text: bytes | str, where: object) -> Any:
    """Parses JSON.

    Raises:
      DataError: it is invalid, not UTF-8, or nested too deeply.
    """
    with readable("JSON file", where):
        return json.loads(text)


class _Loader(yaml.BaseLoader):
    """Keeps all values as text (other loaders read 4_2 as a number), and has no aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # a few lines of them repeat to gigabytes
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="expected no aliases (*name)", problem_mark=mark)
        return super().compose_node(parent, index)


def load_yaml(file: Path) -> Any:
    """Parses YAML; all values are text, lists and mappings.

    Raises:
      DataError: it is invalid, not UTF-8, nested too deeply, or has aliases.
    """
    with readable("YAML file", file):
        return yaml.load(file.read_text("utf-8"), _Loader)
