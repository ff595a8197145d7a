"""Answers requests to a live stream with JSON values."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipelines.errors import shortened
from data_pipelines.formats.sample_stream import Request
from dynapurls_jax.serving.frame_window import FrameWindow
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.recognition import Recognition
from dynapurls_jax.serving.sensor import Sensor

SLOWEST_FPS = 5.0  # least frame rate of a window


@dataclass
class Replies:
    """Answers requests; docs/streaming.md has their format.

    Attributes:
      stream: the stream that recognises clips.
      window: the window of single frames.
      sensor: converts clips to the model's joints; None if they are in these joints, in metres.
      top: number of actions in an answer.
      fps: frame rate of frames without a time, in Hz.
    """

    stream: LiveStream
    window: FrameWindow
    sensor: Sensor | None = None
    top: int = 5
    fps: float = 30.0
    _frames: int = 0

    def answer(self, request: Request) -> dict[str, Any] | None:
        """The reply to a request; an invalid request has no effect.

        Returns:
          `line`, `id` if the request has one, and the fields of docs/streaming.md; None for a frame
          that completes no window.
        """
        reply: dict[str, Any] = {"line": request.line}
        if request.id is not None:
            reply["id"] = request.id
        start = time.perf_counter()
        try:
            found = self._handle(request)
        except ValueError as error:  # DataError is one
            return reply | {"error": shortened(str(error))}
        if found is None:
            return None
        if "class" in found:
            found["latency_ms"] = round(1e3 * (time.perf_counter() - start), 3)
        return reply | found

    def _handle(self, request: Request) -> dict[str, Any] | None:
        kind, value, stream = request.kind, request.value, self.stream
        if kind == "bad":
            return {"error": value}
        if kind == "add":
            stream.add(value, request.texts)
            return {"added": value}
        if kind == "retire":
            stream.remove(value)
            return {"retired": value}
        if kind == "reset":
            stream.reset()
            return {"reset": True}
        if kind == "tokens":
            return self._reply_of(stream.predict_tokens(value))
        if kind == "frame":
            return self._frame(value, request.time)
        return self._reply_of(stream.predict(self._model_clip(value)))

    def _frame(self, frame: np.ndarray, seconds: float | None) -> dict[str, Any] | None:
        """The reply for the window that a frame completes; only fresh windows adapt the model."""
        self._frames += 1
        seconds = self._frames / self.fps if seconds is None else seconds
        window = self.window.add(frame, seconds)
        if window is None:
            return None
        if len(window.times) < SLOWEST_FPS * (window.times[-1] - window.times[0]):
            raise ValueError(f"expected {SLOWEST_FPS:g} frames a second or more")
        clip = self._model_clip(window.joints, window.times)
        found = self.stream.predict(clip) if window.fresh else self.stream.look(clip)
        span = {"from": round(float(window.times[0]), 3), "to": round(float(window.times[-1]), 3)}
        return self._reply_of(found) | span

    def _model_clip(self, clip: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        if self.sensor is not None:
            return self.sensor(clip, times)
        if clip.shape[-1] != 3:
            raise ValueError("clip: expected 3 coordinates, got 2; 2D clips need --skeleton")
        return clip

    def _reply_of(self, found: Recognition) -> dict[str, Any]:
        if found.skipped:
            return {"class": None, "skipped": "not finite"}
        shares = [round(float(share), 6) for share in found.probabilities[: self.top]]
        return {
            "class": found.label,
            "confidence": shares[0],
            "top": [list(pair) for pair in zip(found.labels, shares, strict=False)],
            "none_of_these": found.none_of_these,
            "adapted": found.adapted,
        }
