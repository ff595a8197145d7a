"""Arrays too big for memory (tokens, prepared clips): a file, and a manifest of its origin."""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from data_pipelines.locks import one_at_a_time

MANIFEST = "manifest.json"
ARRAY = "array.npy"
PROGRESS = "progress.json"
SAVE_EVERY = 5.0  # seconds

Chunks = Callable[[int], Iterable[np.ndarray]]


class StaleStoreError(RuntimeError):
    """The store was made from other clips, config or checkpoint, or it is damaged."""


def open_or_make(
    folder: Path, made_from: dict, shape: tuple[int, ...], dtype: type, chunks: Chunks
) -> np.ndarray:
    """The array `[N, ...]` of a store, memory-mapped; made first if it is not there.

    It appears whole or not at all. What an interrupted process made lies in `<folder>.part` and is
    gone on with. Two processes never make the same store at once.

    Args:
      folder: an older store in it, made from something else, is replaced.
      made_from: JSON-able identity of all that the array depends on.
      chunks: called with the first row that is missing; gives the rows from there on, in order.

    Raises:
      ValueError: the chunks do not fill the shape.
    """
    try:
        return open_store(folder, made_from)
    except (FileNotFoundError, StaleStoreError):
        pass
    with one_at_a_time(folder.with_name(f"{folder.name}.lock")):
        try:
            return open_store(folder, made_from)  # of the process that was waited for
        except FileNotFoundError:
            pass
        except StaleStoreError as reason:
            print(f"  {reason}; making it again", flush=True)
        part = folder.with_name(f"{folder.name}.part")
        record = {"shape": list(shape), "dtype": np.dtype(dtype).name, "made_from": made_from}
        _fill(part, json.loads(json.dumps(record)), chunks)
        (part / PROGRESS).unlink()
        (part / MANIFEST).write_text(json.dumps(record, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    return open_store(folder, made_from)


def _fill(part: Path, record: dict, chunks: Chunks) -> None:
    """Fills the array from the first row that an interrupted process did not write."""
    shape, row = record["shape"], _rows_done(part, record)
    if not row:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    mode = "r+" if row else "w+"
    array = open_memmap(part / ARRAY, mode=mode, dtype=record["dtype"], shape=tuple(shape))
    saved = time.monotonic()
    try:
        for chunk in chunks(row):
            if row + len(chunk) > shape[0] or list(chunk.shape[1:]) != shape[1:]:
                raise ValueError(f"expected rows of {shape}, got {list(chunk.shape)} at {row}")
            array[row : row + len(chunk)] = chunk
            row += len(chunk)
            if time.monotonic() - saved > SAVE_EVERY:
                _save(part, array, record, row)
                saved = time.monotonic()
    finally:
        _save(part, array, record, row)
    if row != shape[0]:
        raise ValueError(f"expected {shape[0]} rows, got {row}")


def _rows_done(part: Path, record: dict) -> int:
    """Rows that are there of exactly this array."""
    try:
        progress = json.loads((part / PROGRESS).read_text())
    except (FileNotFoundError, ValueError):
        return 0
    return progress["rows"] if progress["of"] == record else 0


def _save(part: Path, array: np.memmap, record: dict, rows: int) -> None:
    array.flush()
    temporary = part / "progress.tmp"
    temporary.write_text(json.dumps({"of": record, "rows": rows}))
    temporary.replace(part / PROGRESS)


def open_store(folder: Path, made_from: dict) -> np.ndarray:
    """The array `[N, ...]`, memory-mapped, if it was made from exactly this.

    Raises:
      FileNotFoundError: no complete store there.
      StaleStoreError: it was made from something else; names what differs.
    """
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"no complete store in {folder}")
    record = json.loads((folder / MANIFEST).read_text())
    stored = record["made_from"]
    differing = [key for key in {**stored, **made_from} if stored.get(key) != made_from.get(key)]
    if differing:
        raise StaleStoreError(
            f"store {folder} is stale: "
            + ", ".join(
                f"{key} is {made_from.get(key)!r} now, was {stored.get(key)!r}" for key in differing
            )
        )
    try:
        array = np.load(folder / ARRAY, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise StaleStoreError(f"store {folder} is damaged ({error})") from error
    if list(array.shape) != record["shape"] or str(array.dtype) != record["dtype"]:
        raise StaleStoreError(
            f"store {folder}: expected {record['shape']} {record['dtype']}, "
            f"got {list(array.shape)} {array.dtype}"
        )
    return array
