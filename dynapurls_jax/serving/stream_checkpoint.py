"""Checkpoints of the state of a long stream, and the changes of its classes after them."""

import time
from pathlib import Path
from typing import Any

from data_pipelines import stored
from data_pipelines.formats.sample_stream import Request
from data_pipelines.locks import remove_leftovers
from data_pipelines.logs import log
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.signals import deferred_signals
from dynapurls_jax.training.stages import Stage

SAVE_EVERY = 1000  # requests
SAVE_SECONDS = 300


class StreamCheckpoint:
    """Saves the state of a stream, with the names of its classes, in a folder.

    A checkpoint takes longer than a request. A change of the classes is therefore only recorded, in
    `changes-<n>.json` for checkpoint n, and is repeated after the checkpoint is restored.
    """

    def __init__(self, stream: LiveStream, folder: Path):
        """Opens the folder, which the caller holds; restores a saved state to the stream.

        Raises:
          WorkdirMismatchError: the folder has the state of another stream.
          CheckpointError, DamagedError: no state can be used; the message has what to delete.
        """
        remove_leftovers(folder)
        Stage(folder, stream.identity)
        self._stream, self._folder = stream, folder
        self._checkpoints = Checkpoints(folder / "checkpoints")
        self._number = self._checkpoints.latest() or 0
        if self._number:
            stream.state = self._checkpoints.restore(stream.state)
            stream.names = self._checkpoints.about()
            log.info(f"resumed from {folder}: samples {int(stream.state.samples)}")
        self._changes: list[list] = []
        self._unsaved, self._saved_at = 0, time.monotonic()
        if not self._number or self._repeat_changes():
            self.save()  # changes have a checkpoint with the classes that they change

    def _repeat_changes(self) -> bool:
        """Makes the changes after the restored checkpoint again; whether there are any."""
        numbers = sorted(number for number in self._recorded() if number >= self._number)
        remedy = "delete it to continue without these changes of the classes"
        for number in numbers:
            for kind, *values in stored.read_json(self._record(number), remedy):
                getattr(self._stream, kind)(*values)
        return bool(numbers)

    def after(self, request: Request, answer: dict[str, Any]) -> None:
        """Is called after each answer; records a change, saves after many answers or some time."""
        self._unsaved += 1
        changes = {
            "added": ["add", request.value, request.texts],
            "retired": ["remove", request.value],
            "reset": ["reset"],
        }
        if made := [change for key, change in changes.items() if key in answer]:
            self._changes += made
            stored.write_json(self._record(self._number), self._changes)
        late = time.monotonic() - self._saved_at > SAVE_SECONDS
        if late or self._unsaved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint; keeps the changes after the one before, which can replace it."""
        before, recorded = self._number, self._recorded()
        self._number = max([before, *recorded]) + 1
        self._checkpoints.save(self._number, self._stream.state, self._stream.names)
        for number in recorded:
            if number < before:
                self._record(number).unlink()
        self._changes, self._unsaved, self._saved_at = [], 0, time.monotonic()

    def close(self) -> None:
        """Saves the state if it has changed since the last checkpoint."""
        with deferred_signals():
            if self._unsaved:
                self.save()
            self._checkpoints.close()

    def _recorded(self) -> list[int]:
        """Numbers of the checkpoints after which changes are recorded."""
        return [int(file.stem.split("-")[1]) for file in self._folder.glob("changes-*.json")]

    def _record(self, number: int) -> Path:
        return self._folder / f"changes-{number}.json"
