"""Training batches through Grain: shuffled anew each epoch, the same for the same seed."""

from collections.abc import Iterator

import grain.python as grain
import numpy as np

# Two threads and two batches are enough to hide the reading of memory-mapped clips.
_READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)


def epoch_batches(
    clips: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch of `{"clips": [B, M, T, V, 3], "labels": [B]}`, read ahead of their use.

    Args:
      clips: all clips of the corpus, perhaps on disk.
      rows: `[n]` those to train on.
      labels: `[n]` of these rows.

    Only whole batches, so that one compiled step serves all; the clips that are left over differ
    from epoch to epoch. The order depends on `(seed, epoch)` alone, so that a resumed run sees what
    an uninterrupted one would have seen.
    """
    order = grain.MapDataset.range(len(labels)).seed(seed + 100_003 * epoch).shuffle()
    batches = order.batch(min(batch_size, len(labels)), drop_remainder=True)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"clips": clips[rows[indices]], "labels": labels[indices]}

    yield from batches.map(read).to_iter_dataset(_READ_AHEAD)


def padded_batches(
    array: np.ndarray, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Some rows in batches of one size, the last filled up by repeating its last row; read ahead.

    Args:
      array: `[N, ...]`, perhaps on disk.
      rows: `[n]`.

    Yields:
      `[batch_size, ...]` and how many of its rows are real.
    """

    def read(start: int) -> tuple[np.ndarray, int]:
        taken = rows[start : start + batch_size]
        missing = batch_size - len(taken)
        return array[np.concatenate([taken, np.repeat(taken[-1:], missing)])], len(taken)

    starts = grain.MapDataset.range(0, len(rows), batch_size)
    yield from starts.map(read).to_iter_dataset(_READ_AHEAD)
