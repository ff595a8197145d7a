"""File locks between processes, and what killed processes leave."""

import shutil
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


def remove_leftovers(folder: Path) -> None:
    """Deletes unfinished files and checkpoints of killed processes; the caller holds the folder."""
    for pattern in ("*.tmp", "*.orbax-checkpoint-tmp*"):
        for left in list(folder.rglob(pattern)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
