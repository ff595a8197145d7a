"""Checkpoints of the state of a long stream."""

import json
import time
from pathlib import Path
from typing import Any

from data_pipelines.atomic import write_text
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.signals import deferred_signals
from dynapurls_jax.training.stages import Stage

SAVE_EVERY = 1000  # requests
SAVE_SECONDS = 300


class StreamCheckpoint:
    """Saves the state of a stream, with the names of its classes, in a folder."""

    def __init__(self, stream: LiveStream, folder: Path):
        """Opens the folder; restores a saved state to the stream.

        Raises:
          WorkdirMismatchError: the folder has the state of another stream.
        """
        Stage(folder, stream.identity)
        self._stream, self._folder = stream, folder
        self._checkpoints = Checkpoints(folder / "checkpoints")
        self._unsaved, self._saved_at = 0, time.monotonic()
        if (step := self._checkpoints.latest()) is not None:
            stream.state = self._checkpoints.restore(stream.state)
            stream.names = json.loads(self._names_file(step).read_text("utf-8"))

    def after(self, answer: dict[str, Any]) -> None:
        """Is called after each answer; saves after many, after some time, or for new classes."""
        self._unsaved += 1
        late = time.monotonic() - self._saved_at > SAVE_SECONDS
        if late or self._unsaved >= SAVE_EVERY or {"added", "retired", "reset"} & set(answer):
            self.save()

    def save(self) -> None:
        """Saves the names before the state, so that every complete checkpoint has its names."""
        step = (self._checkpoints.latest() or 0) + 1
        write_text(self._names_file(step), json.dumps(self._stream.names))
        self._checkpoints.save(step, self._stream.state)
        for old in self._folder.glob("classes-*.json"):
            if old not in (self._names_file(step), self._names_file(step - 1)):
                old.unlink()
        self._unsaved, self._saved_at = 0, time.monotonic()

    def close(self) -> None:
        """Saves the state if it has changed since the last checkpoint."""
        with deferred_signals():
            if self._unsaved:
                self.save()
            self._checkpoints.close()

    def _names_file(self, step: int) -> Path:
        return self._folder / f"classes-{step}.json"
