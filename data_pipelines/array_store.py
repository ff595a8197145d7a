"""Arrays too large for memory (tokens, prepared clips): their bytes in a file, and a record.

The file has no header. The record (`stored`) has the origin, shape, type and CRC-32 of all bytes,
which is checked whenever a store is opened: a damaged store is made again.
"""

import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from data_pipelines import stored
from data_pipelines.atomic import flush, full_disk_named
from data_pipelines.locks import one_at_a_time
from data_pipelines.logs import log

ARRAY = "array.bin"
RECORD = "progress.json"  # counts the entries that are complete: all of a finished store
SAVE_EVERY = 5.0  # seconds
_BLOCK = 1 << 24  # bytes of one CRC-32 update

Chunks = Callable[[int], Iterable[np.ndarray]]


class StaleStoreError(RuntimeError):
    """The store has another origin (clips, configuration, checkpoint), or is damaged."""


def open_or_make(
    folder: Path, made_from: dict, shape: tuple[int, ...], dtype: type, chunks: Chunks
) -> np.ndarray:
    """Opens the array `[N, ...]` of a store, memory-mapped; makes the store first if needed.

    The store is created atomically. Partial results of an interrupted process are kept in
    `<folder>.part` and resumed. A lock prevents two processes from making the same store at once.

    Args:
      folder: of the store; a store of another origin is replaced.
      made_from: identity of everything that the array depends on, serialisable as JSON.
      chunks: maps the index of the first missing entry to the entries from there on, in order, as
        arrays `[n, ...]`.

    Raises:
      ValueError: the chunks do not fill the shape.
      FullDiskError: there is no room.
    """
    origin = {"shape": shape, "dtype": np.dtype(dtype).name, "made_from": made_from}
    try:
        return open_store(folder, made_from)
    except (FileNotFoundError, StaleStoreError):
        pass
    with one_at_a_time(folder.with_name(f"{folder.name}.lock")):
        try:
            return open_store(folder, made_from)  # another process made it while this one waited
        except FileNotFoundError:
            pass
        except StaleStoreError as reason:
            log.info(f"  {reason}; making it again")
        part = folder.with_name(f"{folder.name}.part")
        _fill(part, json.loads(json.dumps(origin)), chunks)
        # After a failure before the rename, the next call finds a complete part and renames it.
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
        flush(folder.parent)
    return open_store(folder, made_from)


def open_store(folder: Path, made_from: dict) -> np.ndarray:
    """Opens the array `[N, ...]` of a store, memory-mapped, if the store has this origin.

    Raises:
      FileNotFoundError: there is no complete store.
      StaleStoreError: the store is damaged or has another origin; the message has the difference.
    """
    if not (folder / RECORD).exists():
        raise FileNotFoundError(f"no complete store in {folder}")
    record, array = _opened(folder)
    was, now = record["made_from"], json.loads(json.dumps(made_from))
    if differing := [key for key in {**was, **now} if was.get(key) != now.get(key)]:
        changes = (f"{key} is {now.get(key)!r} now, was {was.get(key)!r}" for key in differing)
        raise StaleStoreError(f"store {folder} is stale: {', '.join(changes)}")
    return array


def _opened(folder: Path, mode: str = "r") -> tuple[dict, np.memmap]:
    """The record and the array of a store or a part, whose complete entries are verified.

    Raises:
      StaleStoreError: it is damaged, or there is none.
    """
    try:
        record = stored.read_json(folder / RECORD)
        shape, dtype = tuple(record["shape"]), np.dtype(record["dtype"])
        if (folder / ARRAY).stat().st_size != dtype.itemsize * math.prod(shape):
            raise ValueError(f"{ARRAY} has another size")
        array = np.memmap(folder / ARRAY, dtype, mode, shape=shape)  # type: ignore[call-overload]
        if crc32(array[: record["entries"]]) != record["crc32"]:
            raise ValueError(f"the CRC-32 of {ARRAY} is not that of its record")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StaleStoreError(f"store {folder} is damaged ({error})") from error
    return record, array


def _fill(part: Path, origin: dict, chunks: Chunks) -> None:
    """Fills the array from its first missing entry."""
    shape = origin["shape"]
    try:
        record, array = _opened(part, "r+")
        fits = origin.items() <= record.items()
    except StaleStoreError:
        fits = False
    if not fits:
        record, array = origin | {"entries": 0, "crc32": 0}, _new_array(part, origin)
    saved = time.monotonic()
    try:
        for chunk in chunks(record["entries"]) if record["entries"] < shape[0] else ():
            done = record["entries"]
            end = done + len(chunk)
            if end > shape[0] or list(chunk.shape[1:]) != shape[1:]:
                raise ValueError(f"expected entries of {shape}, got {list(chunk.shape)} at {done}")
            array[done:end] = chunk
            record |= {"entries": end, "crc32": crc32(array[done:end], record["crc32"])}
            if time.monotonic() - saved > SAVE_EVERY:
                _save(part, array, record)
                saved = time.monotonic()
    finally:
        _save(part, array, record)
    if record["entries"] != shape[0]:
        raise ValueError(f"expected {shape[0]} entries, got {record['entries']}")


def _save(part: Path, array: np.memmap, record: dict) -> None:
    array.flush()
    flush(part / ARRAY)
    stored.write_json(part / RECORD, record)


def crc32(array: np.ndarray, before: int = 0) -> int:
    """CRC-32 of an array's values; `before` is the CRC-32 of preceding values to continue from."""
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, len(values), _BLOCK):
        before = zlib.crc32(values[start : start + _BLOCK].data, before)
    return before


def _new_array(part: Path, origin: dict) -> np.memmap:
    """An empty array with all its bytes allocated: a full disk is an error now, no crash later."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    file, shape = part / ARRAY, tuple(origin["shape"])
    array = np.memmap(file, origin["dtype"], "w+", shape=shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with file.open("r+b") as written:
            size = file.stat().st_size
            with full_disk_named(file, size):
                os.posix_fallocate(written.fileno(), 0, size)
    return array
