"""Atomic file writes, also if the process or the machine fails."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class FullDiskError(OSError):
    """A file has no room on its disk; names the file, the space that is free, and what to do."""

    def __init__(self, path: Path, needed: str):
        self._made_of = path, needed
        folder = next(one for one in path.absolute().parents if one.exists())
        free = _size(shutil.disk_usage(folder).free)
        super().__init__(
            f"{path}: no space left on device, {free} are free, {needed} are needed. Make room or "
            "choose another disk (--workdir for training, DYNAPURLS_CACHE for prepared data); the "
            "same command resumes"
        )

    def __reduce__(self):
        return FullDiskError, self._made_of  # how it travels from another process


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


@contextmanager
def full_disk_named(path: Path, needed: int | Callable[[], int]) -> Iterator[None]:
    """Names the file in the error of a full disk.

    Args:
      path: of the file that is written in the block.
      needed: its bytes; if they are not known, a function that counts those until the error.

    Raises:
      FullDiskError: in place of an `OSError` without a file, or of a library's error.
    """
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not full and os.strerror(errno.ENOSPC) not in str(error):
            raise
        room = f"more than {_size(needed())}" if callable(needed) else _size(needed)
        raise FullDiskError(path, room) from error


@contextmanager
def replacing(path: Path, needed: int = 0) -> Iterator[BinaryIO]:
    """Opens a new binary file that replaces `path` at the end of the block.

    File and folder are flushed to the disk: after the block a power failure loses nothing. After an
    error `path` is unchanged. Several processes, on several machines, may write the same
    path at once: each writes its own temporary file, and the last rename wins.

    Args:
      needed: bytes of the file, for the error; 0 if they are not known.

    Raises:
      FullDiskError: there is no room.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")

    def written() -> int:
        return temporary.stat().st_size if temporary.exists() else 0

    try:
        with full_disk_named(path, needed or written), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with replacing(path, len(content)) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    write_bytes(path, text.encode())
