"""Arrays too big for memory (tokens, prepared clips): a file, and a manifest of its origin."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

MANIFEST = "manifest.json"
ARRAY = "array.npy"


class StaleStoreError(RuntimeError):
    """The store was made from other clips, config or checkpoint, or it is damaged."""


def write_store(folder: Path, chunks: Iterable[np.ndarray], shape: tuple, made_from: dict) -> None:
    """Writes an array `[N, ...]` chunk by chunk; it appears whole or not at all.

    Args:
      folder: created if needed; an older store in it is replaced.
      chunks: consecutive rows, float16 or float32, `N` in all.
      shape: `[N, ...]`.
      made_from: JSON-able identity of config, checkpoint and corpus.

    Raises:
      ValueError: the chunks do not fill the shape.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made aside: whoever reads an older store there keeps it until this one is whole.
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        array = _write_array(scratch / ARRAY, chunks, shape)
        record = {"shape": list(shape), "dtype": str(array.dtype), "made_from": made_from}
        (scratch / MANIFEST).write_text(json.dumps(record, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_array(file: Path, chunks: Iterable[np.ndarray], shape: tuple) -> np.ndarray:
    array, row = None, 0
    for chunk in chunks:
        if array is None:
            array = open_memmap(file, mode="w+", dtype=chunk.dtype, shape=shape)
        if row + len(chunk) > shape[0] or chunk.shape[1:] != tuple(shape[1:]):
            raise ValueError(f"expected rows of {list(shape)}, got {list(chunk.shape)} at {row}")
        array[row : row + len(chunk)] = chunk
        row += len(chunk)
    if array is None or row != shape[0]:
        raise ValueError(f"expected {shape[0]} rows, got {row}")
    array.flush()
    return array


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
