"""Files that this program writes and reads itself: caches, records of stages and of checkpoints.

A file is written whole or not at all (`atomic`). The SHA-256 at its beginning covers all bytes
after it and is verified whenever the file is read, so that a damaged file is an error, never a
value. What reads it then makes it again, uses an older one, or passes the error on.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_pipelines.atomic import flush, replacing
from data_pipelines.errors import DataError

_LINE = "# sha256 {}\n"  # a comment for `sha256sum --check`
_JSON = '{{"sha256": "{}",\n'  # the file stays JSON
_NONE = "0" * 64  # as long as a digest
_ABOUT = "about"


class DamagedError(DataError):
    """A file is not what was written; the message names it, and what to delete."""


@contextmanager
def writing(file: Path, head: str = _LINE) -> Iterator[BinaryIO]:
    """Opens a new file in an existing folder for its content; the digest is added at the end.

    Raises:
      FullDiskError: there is no room.
    """
    with replacing(file) as output:
        output.write(head.format(_NONE).encode())
        yield output
        output.flush()
        with Path(output.name).open("rb") as content:
            content.seek(len(head.format(_NONE)))
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        output.seek(0)
        output.write(head.format(digest).encode())


@contextmanager
def reading(file: Path, remedy: str = "delete it", head: str = _LINE) -> Iterator[BinaryIO]:
    """Opens a file at the beginning of the content that `writing` was given.

    Args:
      remedy: what the user does about a damaged file.

    Raises:
      FileNotFoundError: there is no such file.
      DamagedError: it is not what was written.
    """
    size = len(head.format(_NONE))
    with file.open("rb") as content:
        first = content.read(size)
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        if first != head.format(digest).encode():
            raise DamagedError(f"damaged, or of another version; {remedy}", file)
        content.seek(size)
        yield content


def write(file: Path, content: bytes, head: str = _LINE) -> None:
    """Writes a file and its folder; see `writing`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with writing(file, head) as output:
        output.write(content)


def read(file: Path, remedy: str = "delete it", head: str = _LINE) -> bytes:
    """The content that `write` was given; see `reading`."""
    with reading(file, remedy, head) as content:
        return content.read()


def write_json(file: Path, value: Any) -> None:
    """Writes a value as JSON, at the key `content` beside its digest."""
    write(file, f'"content": {json.dumps(value, indent=1)}}}\n'.encode(), _JSON)


def read_json(file: Path, remedy: str = "delete it") -> Any:
    """The value that `write_json` was given; see `read`."""
    return json.loads(b"{" + read(file, remedy, _JSON))["content"]


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray], about: Any = None) -> None:
    """Writes arrays by name, and a JSON value, as an npz after the digest."""
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    packed = io.BytesIO()
    np.savez(packed, **{**arrays, _ABOUT: text})  # type: ignore[arg-type]  # names, not options
    write(file, packed.getvalue())


def read_arrays(file: Path, remedy: str = "delete it") -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and the value that `write_arrays` was given; see `read`."""
    with np.load(io.BytesIO(read(file, remedy))) as packed:
        arrays = dict(packed)
    return arrays, json.loads(arrays.pop(_ABOUT).tobytes())


def seal(folder: Path, record: Path) -> None:
    """Flushes a folder to the disk and writes the SHA-256 of its files in the form of `sha256sum`.

    Args:
      record: in the folder or elsewhere.
    """
    for path in (*folder.rglob("*"), folder, folder.parent):
        flush(path)
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in _names(folder, record)]
    write(record, "".join(lines).encode())


def fault(folder: Path, record: Path, unread: str | None = None) -> str | None:
    """The first difference between a folder and its record, in words; None if there is none.

    Args:
      unread: part of the names of files that are not compared, since they are verified in use.

    Raises:
      FileNotFoundError: there is no record.
    """
    try:
        lines = read(record).decode().splitlines()
    except DamagedError as error:
        return str(error)
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _names(folder, record)
    for name in sorted({*found, *expected}):
        if name not in found:
            return f"no file {name}"
        if unread and unread in name and name in expected:
            continue
        if expected.get(name) != _sha256(folder / name):
            return f"{name} is not what was written"
    return None


def _names(folder: Path, record: Path) -> list[str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != record)
    return [str(path.relative_to(folder)) for path in files]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
