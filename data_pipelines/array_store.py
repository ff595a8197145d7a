"""Arrays too large for memory (tokens, prepared clips): a file, and a manifest with its origin.

The manifest contains the CRC-32 of all values. It is checked whenever a store is opened, so that a
truncated or changed file is never used.
"""

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from data_pipelines.atomic import full_disk_named, write_text
from data_pipelines.locks import one_at_a_time
from data_pipelines.logs import log

MANIFEST = "manifest.json"
ARRAY = "array.npy"
PROGRESS = "progress.json"
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
    made_from = json.loads(json.dumps(made_from))
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
        record = {"shape": list(shape), "dtype": np.dtype(dtype).name, "made_from": made_from}
        checksum = _fill(part, record, chunks)
        write_text(part / MANIFEST, json.dumps(record | {"crc32": checksum}, indent=1))
        # After a failure before the rename, the next call finds a complete part and renames it.
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
        (folder / PROGRESS).unlink()
    return open_store(folder, made_from)


def _fill(part: Path, record: dict, chunks: Chunks) -> int:
    """Fills the array from its first missing entry; returns the CRC-32 of all values."""
    shape, (done, checksum) = record["shape"], _entries_done(part, record)
    array = open_memmap(part / ARRAY, mode="r+") if done else _new_array(part, record)
    saved = time.monotonic()
    try:
        for chunk in chunks(done) if done < shape[0] else ():
            end = done + len(chunk)
            if end > shape[0] or list(chunk.shape[1:]) != shape[1:]:
                raise ValueError(f"expected entries of {shape}, got {list(chunk.shape)} at {done}")
            array[done:end] = chunk
            checksum = crc32(array[done:end], checksum)
            done = end
            if time.monotonic() - saved > SAVE_EVERY:
                _save(part, array, record, done, checksum)
                saved = time.monotonic()
    finally:
        _save(part, array, record, done, checksum)
    if done != shape[0]:
        raise ValueError(f"expected {shape[0]} entries, got {done}")
    return checksum


def crc32(array: np.ndarray, before: int = 0) -> int:
    """CRC-32 of an array's values; `before` is the CRC-32 of preceding values to continue from."""
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, len(values), _BLOCK):
        before = zlib.crc32(values[start : start + _BLOCK].data, before)
    return before


def _new_array(part: Path, record: dict) -> np.memmap:
    """An empty array with all its bytes allocated: a full disk is an error now, no crash later."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    file, shape = part / ARRAY, tuple(record["shape"])
    array = open_memmap(file, mode="w+", dtype=record["dtype"], shape=shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with file.open("r+b") as written:
            size = file.stat().st_size
            with full_disk_named(file, size):
                os.posix_fallocate(written.fileno(), 0, size)
    return array


def _entries_done(part: Path, record: dict) -> tuple[int, int]:
    """Number of intact entries in a part of the same array, and their CRC-32; else 0 and 0."""
    try:
        progress = json.loads((part / PROGRESS).read_text())
        array = np.load(part / ARRAY, mmap_mode="r")
        fits = [list(array.shape), array.dtype.name] == [record["shape"], record["dtype"]]
        done, checksum = progress["entries"], progress["crc32"]
        if fits and progress["of"] == record and crc32(array[:done]) == checksum:
            return done, checksum
    except (OSError, ValueError, LookupError, EOFError):
        pass
    return 0, 0


def _save(part: Path, array: np.memmap, record: dict, done: int, checksum: int) -> None:
    array.flush()
    progress = {"of": record, "entries": done, "crc32": checksum}
    write_text(part / PROGRESS, json.dumps(progress, indent=1))


def open_store(folder: Path, made_from: dict) -> np.ndarray:
    """Opens the array `[N, ...]` of a store, memory-mapped, if the store has this origin.

    Raises:
      FileNotFoundError: there is no complete store.
      StaleStoreError: the store is damaged or has another origin; the message has the difference.
    """
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"no complete store in {folder}")
    made_from = json.loads(json.dumps(made_from))
    try:
        record = json.loads((folder / MANIFEST).read_text())
        stored, shape, dtype = record["made_from"], record["shape"], record["dtype"]
        checksum = record["crc32"]
        array = np.load(folder / ARRAY, mmap_mode="r")
    except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
        raise StaleStoreError(f"store {folder} is damaged ({error})") from error
    differing = [key for key in {**stored, **made_from} if stored.get(key) != made_from.get(key)]
    if differing:
        raise StaleStoreError(
            f"store {folder} is stale: "
            + ", ".join(
                f"{key} is {made_from.get(key)!r} now, was {stored.get(key)!r}" for key in differing
            )
        )
    if list(array.shape) != shape or str(array.dtype) != dtype:
        raise StaleStoreError(
            f"store {folder}: expected {shape} {dtype}, got {list(array.shape)} {array.dtype}"
        )
    if crc32(array) != checksum:
        raise StaleStoreError(
            f"store {folder} is damaged (the CRC-32 of {ARRAY} differs from the manifest)"
        )
    return array
