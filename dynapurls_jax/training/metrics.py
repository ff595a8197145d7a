"""What a stage reports while it runs: `metrics.jsonl` to read, `tensorboard/` to look at."""

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter

from dynapurls_jax.training.processes import is_first

FILE = "metrics.jsonl"


class Metrics:
    """Records of one stage, a JSON object a line, each with its step; also for TensorBoard."""

    def __init__(self, folder: Path, first: int):
        """Opens the stage's records; those of steps after `first` will come again and go."""
        self._file = self._board = None
        if not is_first():
            return
        file = folder / FILE
        kept = [line for line in _lines(file) if line["step"] <= first]
        temporary = file.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(file)
        self._file = file.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Adds a record; figures that are None are left out."""
        if self._file is None or self._board is None:
            return
        record = {name: value for name, value in figures.items() if value is not None}
        self._file.write(json.dumps({"step": step} | record) + "\n")
        self._file.flush()
        for name, value in record.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is not on disk yet."""
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()


def _lines(file: Path) -> list[dict]:
    """The records of a file; a line that a killed process left unfinished is none."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def memory() -> dict[str, float | None]:
    """Gigabytes in use: most so far of one device (None where it does not say), and of the host."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"device_gb": peak and peak / 1e9, "host_gb": host / 1e9}
