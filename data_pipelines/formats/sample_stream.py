"""Samples and commands from a stream of bytes, such as standard input: JSON lines or npy arrays.

JSON lines, one object each:

  {"clip": [M][T][V][3]}    zeros where untracked; the axis M is optional
  {"frame": [M][V][3], "time": 1.25}    one frame of a continuous stream; time in seconds
  {"tokens": [S][n]}        or [T'][V][n]: output of an encoder
  {"add": "wave"}           adds a class by its name
  {"add": "wave", "text": "a person waves"}    adds a class by a sentence
  {"add": "wave", "texts": {granularity: text, ...}}    by all texts, optionally with a "sketch"
  {"retire": "wave"}        removes a class
  {"reset": true}           resets all adaptation

Any object may have an "id", which is returned with the answer. Alternatively, arrays in the format
of `numpy.save`, one after the other: a clip `[T, V, 3]` or `[M, T, V, 3]`, or tokens `[S, n]`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from data_pipelines.errors import DataError, shortened
from data_pipelines.untrusted import load_json, read_npy

LARGEST = 2**26  # bytes of a line or of an array's values; an hour of two persons as float32
KINDS = ("clip", "frame", "tokens", "add", "retire", "reset")
# Number of axes of arrays, and their accepted shapes as text.
_AXES = {
    "clip": (4, "[M, T, V, 3] or [T, V, 3]"),
    "frame": (3, "[M, V, 3] or [V, 3]"),
    "tokens": (2, "[S, n] or [T', V, n]"),
}


@dataclass(frozen=True)
class Request:
    """One line or array of the stream.

    Attributes:
      line: number of the line or array, from 1.
      kind: one of `KINDS`, or "bad".
      value: depends on the kind: an array `[M, T, V, k]`, `[M, V, k]` or `[S, n]`, with `k` 2 or 3;
        a class name; or the error.
      texts: texts of a class to add, one per granularity or one for all; None: its name.
      id: chosen by the sender.
      time: time of a frame, in seconds.
    """

    line: int
    kind: str
    value: Any
    texts: dict | str | None = None
    id: Any = None
    time: float | None = None


def read_requests(stream: BinaryIO) -> Iterator[Request]:
    """Requests in order of arrival; unreadable requests have the kind "bad" and the reason.

    A damaged npy array ends the stream, since the beginning of the next one is unknown.

    Args:
      stream: buffered, with `peek`, such as `sys.stdin.buffer`.
    """
    start = stream.peek(1)[:1]  # type: ignore[attr-defined]
    if start == np.lib.format.MAGIC_PREFIX[:1]:  # JSON never starts with this byte
        yield from _arrays(stream)
    else:
        yield from _lines(stream)


def _lines(stream: BinaryIO) -> Iterator[Request]:
    number = 0
    while line := stream.readline(LARGEST):
        number += 1
        if len(line) == LARGEST and not line.endswith(b"\n"):
            while (rest := stream.readline(LARGEST)) and not rest.endswith(b"\n"):
                pass
            yield _bad(number, f"expected a line of less than {LARGEST} bytes")
        elif line.strip():
            yield _request(number, line)


def _request(number: int, line: bytes) -> Request:
    try:
        record = load_json(line, f"request {number}")
    except DataError as error:
        return _bad(number, f"{error}")
    kinds = [kind for kind in KINDS if isinstance(record, dict) and kind in record]
    if len(kinds) != 1:
        expected = "expected an object with one of " + ", ".join(KINDS)
        return _bad(number, f"{expected}, got {line[:60].decode(errors='replace')!r}")
    kind, name = kinds[0], record.get("id")
    try:
        json.dumps(name, allow_nan=False)
    except ValueError:
        return _bad(number, "id: expected a JSON value, got NaN or infinity")
    value = record[kind]
    if kind in _AXES:
        try:
            array = shaped(kind, np.array(value, np.float32))
            return Request(number, kind, array, id=name, time=_seconds(record.get("time")))
        except (OverflowError, TypeError, ValueError) as error:
            return _bad(number, f"{kind}: {error}", name)
    if kind == "reset" and value is not True:
        return _bad(number, f"reset: expected true, got {value!r}", name)
    if kind in ("add", "retire") and not isinstance(value, str):
        return _bad(number, f"{kind}: expected a class name, got {value!r}", name)
    texts = record.get("texts", record.get("text"))
    if not isinstance(texts, dict | str | None):
        return _bad(number, f"text: expected a sentence, got {texts!r}", name)
    return Request(number, kind, value, texts=texts, id=name)


def _bad(number: int, reason: str, name: Any = None) -> Request:
    return Request(number, "bad", shortened(reason), id=name)


def _seconds(time: Any) -> float | None:
    """A time stamp.

    Raises:
      ValueError: it is not a finite number.
    """
    if time is None or (isinstance(time, int | float) and abs(time) < 1e12):
        return None if time is None else float(time)
    raise ValueError(f"time: expected seconds, got {time!r}")


def shaped(kind: str, array: np.ndarray) -> np.ndarray:
    """A clip `[M, T, V, k]`, a frame `[M, V, k]`, or tokens `[S, n]`.

    Raises:
      ValueError: the array has another shape.
    """
    axes, forms = _AXES[kind]
    if kind != "tokens" and array.ndim == axes - 1:
        array = array[None]
    if kind == "tokens" and array.ndim == 3:
        array = array.reshape(-1, array.shape[-1])
    has_coordinates = kind == "tokens" or array.shape[-1:] in ((2,), (3,))
    if array.ndim != axes or not has_coordinates or not array.size:
        raise ValueError(f"expected {forms}, got {list(array.shape)}")
    return array


def _arrays(stream: BinaryIO) -> Iterator[Request]:
    number = 0
    while stream.peek(1):  # type: ignore[attr-defined]
        number += 1
        try:
            array = read_npy(stream, LARGEST, f"array {number}")
        except DataError as error:
            yield _bad(number, f"{error}; the rest is not read")
            return
        kind = "tokens" if array.ndim == 2 else "clip"
        try:
            yield Request(number, kind, shaped(kind, array.astype(np.float32)))
        except (TypeError, ValueError) as error:
            yield _bad(number, f"{kind}: {error}")
