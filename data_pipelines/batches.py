"""Training batches through Grain: shuffled anew each epoch, the same for the same seed."""

from collections.abc import Iterator

import grain.python as grain
import numpy as np


def epoch_batches(
    clips: np.ndarray, labels: np.ndarray, batch_size: int, seed: int, epoch: int
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch of `{"clips": [B, M, T, V, 3], "labels": [B]}`.

    Only whole batches, so that one compiled step serves all; the clips that are left over differ
    from epoch to epoch. The order depends on `(seed, epoch)` alone, so that a resumed run sees what
    an uninterrupted one would have seen.
    """
    order = grain.MapDataset.range(len(labels)).seed(seed + 100_003 * epoch).shuffle()
    for indices in order.batch(min(batch_size, len(labels)), drop_remainder=True):
        yield {"clips": clips[indices], "labels": labels[indices]}


def padded_batches(array: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Consecutive batches of one size, the last filled up by repeating its last row.

    Yields:
      `[batch_size, ...]` and how many of its rows are real.
    """
    for start in range(0, len(array), batch_size):
        rows = array[start : start + batch_size]
        missing = batch_size - len(rows)
        yield np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]), len(rows)
