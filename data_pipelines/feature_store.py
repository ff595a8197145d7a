"""Tokens of a whole corpus on disk: an array, and a manifest of what it was made from."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

MANIFEST = "manifest.json"
TOKENS = "tokens.npy"


class StaleStoreError(RuntimeError):
    """The store was made from other clips, config or checkpoint, or it is damaged."""


def write_store(folder: Path, chunks: Iterable[np.ndarray], shape: tuple, made_from: dict) -> None:
    """Writes tokens `[N, T', V, n]` chunk by chunk; the manifest comes last and makes it valid.

    Args:
      folder: created if needed; an older store in it is replaced.
      chunks: consecutive rows, float16 or float32, `N` in all.
      shape: `[N, T', V, n]`.
      made_from: JSON-able identity of config, checkpoint and corpus.

    Raises:
      ValueError: the chunks do not fill the shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    tokens, row = None, 0
    for chunk in chunks:
        if tokens is None:
            tokens = open_memmap(folder / TOKENS, mode="w+", dtype=chunk.dtype, shape=shape)
        if row + len(chunk) > shape[0] or chunk.shape[1:] != tuple(shape[1:]):
            raise ValueError(f"expected rows of {list(shape)}, got {list(chunk.shape)} at {row}")
        tokens[row : row + len(chunk)] = chunk
        row += len(chunk)
    if tokens is None or row != shape[0]:
        raise ValueError(f"expected {shape[0]} rows of tokens, got {row}")
    tokens.flush()
    temporary = folder / f"{MANIFEST}.tmp"
    record = {"shape": list(shape), "dtype": str(tokens.dtype), "made_from": made_from}
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(folder / MANIFEST)


def open_store(folder: Path, made_from: dict) -> np.ndarray:
    """Tokens `[N, T', V, n]`, memory-mapped, if they were made from exactly this.

    Raises:
      FileNotFoundError: no complete store there.
      StaleStoreError: it was made from something else; names what differs.
    """
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"no complete feature store in {folder}")
    record = json.loads((folder / MANIFEST).read_text())
    stored = record["made_from"]
    differing = [key for key in {**stored, **made_from} if stored.get(key) != made_from.get(key)]
    if differing:
        raise StaleStoreError(
            f"feature store {folder} is stale: "
            + ", ".join(
                f"{key} is {made_from.get(key)!r} now, was {stored.get(key)!r}" for key in differing
            )
        )
    try:
        tokens = np.load(folder / TOKENS, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise StaleStoreError(f"feature store {folder} is damaged ({error})") from error
    if list(tokens.shape) != record["shape"] or str(tokens.dtype) != record["dtype"]:
        raise StaleStoreError(
            f"feature store {folder}: expected {record['shape']} {record['dtype']}, "
            f"got {list(tokens.shape)} {tokens.dtype}"
        )
    return tokens
