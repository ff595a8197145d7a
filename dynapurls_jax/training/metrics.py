"""Metrics of a running stage, in `metrics.jsonl` and for TensorBoard."""

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from data_pipelines.atomic import full_disk_named, write_text
from dynapurls_jax.training.processes import is_first

FILE = "metrics.jsonl"
RECORD = 2000  # bytes of a record in both files, about


class Metrics:
    """Records of one stage: a JSON object for each line, with its step; also for TensorBoard."""

    def __init__(self, folder: Path, first: int):
        """Opens the stage's records and deletes those of steps after `first`.

        Raises:
          FullDiskError: there is no room.
        """
        self._file = self._board = None
        if not is_first():
            return
        file = folder / FILE
        steps = ((line.get("step"), line) for line in json_lines(file))
        kept = [line for step, line in steps if isinstance(step, int) and step <= first]
        write_text(file, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = file.open("a")
        with full_disk_named(file, RECORD):
            # Without tensorboardX's thread, whose errors end in tracebacks and a full queue.
            board = folder / "tensorboard"
            board.mkdir(exist_ok=True)
            # TensorBoard reads files in the order of their names, which the clock may not keep.
            number = len(list(board.iterdir()))
            self._board = EventsWriter(str(board / f"events.{number:06d}"))
            start = SessionLog(status=SessionLog.START)
            self._board.write_event(Event(step=first + 1, session_log=start))

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Adds a record; figures that are None are left out.

        Raises:
          FullDiskError: there is no room.
        """
        if self._file is None or self._board is None:
            return
        record = {name: value for name, value in figures.items() if value is not None}
        with full_disk_named(Path(self._file.name), RECORD):
            self._file.write(json.dumps({"step": step} | record) + "\n")
            self._file.flush()
            for name, value in record.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._board.write_event(event)
            self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        for file in (self._file, self._board):
            if file is not None:
                with suppress(OSError):  # of a full disk, which the last record has reported
                    file.close()


def json_lines(file: Path) -> Iterator[dict]:
    """The records of a file; none if there is no file. Damaged lines are skipped."""
    for line in file.read_bytes().split(b"\n") if file.exists() else []:
        with suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                yield record


def memory() -> dict[str, float | None]:
    """Peak memory in GB of the first device (None if not reported) and of the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"device_gb": peak and peak / 1e9, "host_gb": host / 1e9}
