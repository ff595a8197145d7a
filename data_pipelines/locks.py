"""Locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Holds the lock `file`; prints a line if another process holds it, and waits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"waiting for another process that has {file}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
