"""Keeps the state of a stream that runs for days, whole, however it ends."""

import json
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from dynapurls_jax.adaptation import State
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.signals import interrupts_after
from dynapurls_jax.training.stages import Stage, write_whole

SAVE_EVERY = 1000  # requests
SAVE_SECONDS = 300


@runtime_checkable
class Kept(Protocol):
    """What is kept: a state, the names of its slots, and what both belong to."""

    state: State
    names: list[str | None]
    identity: dict


class StreamCheckpoint:
    """Keeps the state of a stream in a folder, with the names of its classes."""

    def __init__(self, live: Kept, folder: Path):
        """Opens the folder; goes on from what it holds."""
        Stage(folder, live.identity)
        self._live, self._folder = live, folder
        self._checkpoints = Checkpoints(folder / "checkpoints")
        self._waiting, self._saved_at = 0, time.monotonic()
        if (step := self._checkpoints.latest()) is not None:
            live.state = self._checkpoints.restore(live.state)
            live.names = json.loads(self._names_file(step).read_text())

    def after(self, answer: dict) -> None:
        """Saves if it is time to."""
        self._waiting += 1
        late = time.monotonic() - self._saved_at > SAVE_SECONDS
        if late or self._waiting >= SAVE_EVERY or {"added", "retired", "reset"} & set(answer):
            self.save()

    def save(self) -> None:
        """Names first: a checkpoint is there once it is whole, and then its names are too."""
        step = (self._checkpoints.latest() or 0) + 1
        write_whole(self._names_file(step), json.dumps(self._live.names))
        self._checkpoints.save(step, self._live.state)
        for old in self._folder.glob("classes-*.json"):
            if old not in (self._names_file(step), self._names_file(step - 1)):
                old.unlink()
        self._waiting, self._saved_at = 0, time.monotonic()

    def close(self) -> None:
        """Saves what came since the last time."""
        with interrupts_after():
            if self._waiting:
                self.save()
            self._checkpoints.close()

    def _names_file(self, step: int) -> Path:
        return self._folder / f"classes-{step}.json"
