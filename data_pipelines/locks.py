"""File locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data_pipelines.logs import log


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Holds the lock `file`; if another process holds it, prints a line and waits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.warning(f"waiting for another process that holds {file}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
