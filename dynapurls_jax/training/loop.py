"""The parts of a training loop around its steps: checkpoints, metrics, signals, NaN detection.

The host reads the loss of a step while the devices compute the next one, so that the devices do not
wait. A step with a non-finite loss or gradient does not change the state, nor do the steps after
it; the state is then the one before that step.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Array

from data_pipelines.logs import log
from dynapurls_jax.training.checkpoints import CheckpointGroup, Checkpoints
from dynapurls_jax.training.metrics import Metrics, memory
from dynapurls_jax.training.processes import any_of
from dynapurls_jax.training.signals import Stopped, deferred_signals

CHECKPOINT_SECONDS = 60.0
LOG_SECONDS = 10.0
AGREE_EVERY = 10  # steps between the decisions of several processes to save
PROFILED = (3, 13)  # first and last step of a trace: after compilation, and few
STOPPING = "stopping after this step (the first one takes long); press again to stop at once"

PyTree = Any


class Loop(ExitStack):
    """One stage's training loop, a context manager around it."""

    def __init__(
        self,
        folders: Sequence[Path],
        checkpoints: Checkpoints | CheckpointGroup,
        first: int,
        clips: int,
        nonfinite: Callable[[int, PyTree, Any], NoReturn],
        profile: bool = False,
    ):
        """Opens the stage's metrics.

        Args:
          folders: folder of the stage; of each, where several runs are trained together and figures
            have a leading axis of the runs.
          first: number of the next step.
          clips: number of clips in a step.
          nonfinite: called with the number of a non-finite step, the state before it, and its
            batch; raises the error.
          profile: write a trace of some steps.
        """
        super().__init__()
        self._folder, self._checkpoints, self._nonfinite = folders[0], checkpoints, nonfinite
        self.running = np.ones(len(folders), bool)  # runs that the next records are of
        self._clips, self._profile = clips, profile
        self._metrics = [Metrics(folder, first) for folder in folders]
        self._saved = self._steps = first
        self._pending: tuple[int, dict, Any] | None = None
        self._tracing = False
        self._started_at = self._saved_at = time.monotonic()
        self._first_step: float | None = None
        self._first = first
        self._timed = 0
        self._reset()

    def __enter__(self) -> "Loop":
        for metrics in self._metrics:
            self.callback(metrics.close)
        self.callback(self._end_trace)
        self._signals = self.enter_context(deferred_signals(STOPPING))
        return self

    def reading(self, batches: Iterable) -> Iterator:
        """Yields the batches and measures the time that the loop waits for them."""
        iterator = iter(batches)
        while True:
            start = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.monotonic() - start
            yield batch

    def after(self, state: PyTree, figures: dict[str, Array], batch: Any) -> None:
        """Is called after each step is dispatched.

        Args:
          state: the state after the step.
          figures: `loss` and `grad_norm` of the step, on the devices.
          batch: the batch of the step, for the report of a non-finite step.

        Raises:
          Stopped: a signal was received; the state is saved.
        """
        self._read_pending(state)
        if self._timed and time.monotonic() - self._logged_at > LOG_SECONDS:
            self._write({})
        self._pending = (self._steps, figures, batch)
        self._steps += 1
        self._trace()
        agree = jax.process_count() == 1 or self._steps % AGREE_EVERY == 0
        late = time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
        if agree and any_of(late or bool(self._signals)):
            self.save(state)
            if any_of(bool(self._signals)):
                raise Stopped(self._signals[0] if self._signals else 15)

    def save(self, state: PyTree) -> None:
        """Writes a checkpoint of the state, unless the newest one has it."""
        self._read_pending(state)
        if self._steps > self._saved:
            self._checkpoints.save(self._steps, jax.device_get(state))  # the same on all devices
        self._saved, self._saved_at = self._steps, time.monotonic()

    def _read_pending(self, state: PyTree) -> None:
        """Waits for the previous step and checks its figures."""
        if self._pending is None:
            return
        number, figures, batch = self._pending
        self._pending = None
        values = {name: np.asarray(value) for name, value in figures.items()}
        if not all(np.isfinite(value).all() for value in values.values()):
            self._nonfinite(number, state, batch)
        runs = len(self._metrics)
        self._seen.append({n: v.reshape(runs, -1).mean(axis=1) for n, v in values.items()})
        self._timed += 1
        if self._first_step is None:
            self._first_step = time.monotonic() - self._started_at
            self._timed, self._waited, self._logged_at = 0, 0.0, time.monotonic()  # compiled

    def log(self, state: PyTree, **figures: Any) -> None:
        """Writes a record of the steps since the last record: mean figures, speed, memory.

        Args:
          figures: more figures for the record, such as the accuracy on validation clips; numbers,
            or an array `[R]` for several runs.
        """
        self._read_pending(state)
        self._write(figures)

    def _write(self, figures: dict[str, Any]) -> None:
        seen, seconds = self._seen, time.monotonic() - self._logged_at
        means = {n: np.mean([one[n] for one in seen], axis=0) for n in (seen or [{}])[0]}
        speed = {"first_step_seconds": self._first_step}
        if self._timed:
            speed["step_seconds"] = seconds / self._timed
            speed["clips_per_second"] = self._clips * self._timed / seconds
            speed["input_wait_share"] = self._waited / seconds
        own, shared = figures | means, speed | memory()
        for run in np.flatnonzero(self.running):
            found = {name: float(np.ravel(value)[run]) for name, value in own.items()}
            self._metrics[run].write(self._steps, found | shared)
        self._reset()

    def _reset(self) -> None:
        self._seen: list[dict[str, float]] = []
        self._timed, self._waited, self._logged_at = 0, 0.0, time.monotonic()

    def _trace(self) -> None:
        done = self._steps - self._first
        if self._profile and done == PROFILED[0]:
            jax.profiler.start_trace(self._folder / "profile")
            self._tracing = True
        elif done == PROFILED[1]:
            self._end_trace()

    def _end_trace(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            log.info(f"  profiler trace: {self._folder / 'profile'}")
