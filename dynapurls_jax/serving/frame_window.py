"""A sliding window over an unlimited stream of frames."""

from collections import deque
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Window(NamedTuple):
    """The frames of a window.

    Attributes:
      joints: zeros for absent persons.
      times: times of the frames in seconds.
      fresh: whether the window has no frame in common with the last fresh window.
    """

    joints: Float[np.ndarray, "M T V 3"]
    times: Float[np.ndarray, " T"]
    fresh: bool


class FrameWindow:
    """Collects frames; emits a window of the last `length` seconds every `stride` seconds."""

    def __init__(self, length: float, stride: float):
        """Starts without frames.

        Args:
          length, stride: in seconds.

        Raises:
          ValueError: not `0 < stride <= length`.
        """
        if not 0 < stride <= length:
            raise ValueError(
                "expected a positive stride, not longer than the window, got window "
                f"{length:g} s and stride {stride:g} s"
            )
        self._length, self._stride = length, stride
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._next = self._fresh_from = -np.inf

    def add(self, frame: Float[np.ndarray, "M V 3"], time: float) -> Window | None:
        """Adds a frame; returns the window that it completes, or None.

        A pause longer than the window discards the earlier frames.

        Args:
          frame: in any unit.
          time: in seconds.

        Raises:
          ValueError: the time is not later than that of the previous frame, or the number of
            joints differs.
        """
        if self._frames:
            last, before = self._frames[-1]
            if not time > last:
                raise ValueError(f"time: expected more than {last:g} s, got {time:g}")
            if frame.shape[1:] != before.shape[1:]:
                raise ValueError(f"frame: expected {len(before[0])} joints, got {frame.shape[1]}")
            if time - last > self._length:
                self._frames.clear()
        if not self._frames:
            self._next = time + self._length
        self._frames.append((time, frame))
        if time < self._next - 1e-6:
            return None
        self._next = time + self._stride
        while self._frames[0][0] < time - self._length - 1e-6:
            self._frames.popleft()
        return self._window()

    def _window(self) -> Window:
        times = np.array([time for time, _ in self._frames])
        persons = max(len(frame) for _, frame in self._frames)
        joints = np.zeros((persons, len(times), *self._frames[0][1].shape[1:]), np.float32)
        for number, (_, frame) in enumerate(self._frames):
            joints[: len(frame), number] = frame
        fresh = times[0] > self._fresh_from
        if fresh:
            self._fresh_from = float(times[-1])
        return Window(joints, times, bool(fresh))
