"""A source of clips for tests of `ingest`; has few imports, since every process imports it."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip


@dataclass
class CountingSource:
    """Clips with known values; records each read in a file."""

    trace: Path
    count: int
    bad: tuple[int, ...] = ()
    chunk: int = 3
    parallel: bool = True
    version: str = "1"
    meaning: str = "metres"
    left_out: int = -1
    strange: int = -1
    place: str = "counting"

    def stamp(self) -> str:
        return self.version

    def identity(self) -> str:
        return self.meaning

    def items(self) -> dict[str, str]:
        return {str(i): self.version for i in range(self.count) if i != self.left_out}

    def read(self, item: str) -> list[RawClip]:
        with self.trace.open("a") as file:
            file.write(f"{item} {os.getpid()}\n")
        if int(item) == self.strange:
            raise ZeroDivisionError
        if int(item) in self.bad:
            raise DataError("expected better", f"file{item}", 7)
        joints = np.full((1 + int(item) % 2, 2 + int(item), 3, 3), int(item) + 1, np.float32)
        return [RawClip(f"clip{item}", joints, int(item), subject=1, notes={"seen": 1})]
