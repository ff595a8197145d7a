"""Training batches through Grain: shuffled anew each epoch, the same for the same seed."""

from collections.abc import Iterator
from typing import NamedTuple

import grain.python as grain
import numpy as np

# Two threads and two batches are enough to hide the reading of memory-mapped clips.
_READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
ALL = slice(None)


class Batch(NamedTuple):
    """Some clips of a corpus.

    Attributes:
      own: `[b, ...]` those of them that this process reads.
      rows: `[B]` where all of them stand in the corpus.
    """

    own: np.ndarray
    rows: np.ndarray


def steps_in_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch over `count` clips; one if there are fewer clips than that."""
    return max(1, count // batch_size)


def epoch_batches(
    clips: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    part: slice = ALL,
) -> Iterator[Batch]:
    """One epoch, or the rest of it, read ahead of its use.

    Args:
      clips: all clips of the corpus `[N, ...]`, perhaps on disk.
      rows: `[n]` those to train on.
      first: how many batches of the epoch were taken before.
      part: of each batch, what this process reads.

    Only whole batches, so that one compiled step serves all; the clips that are left over differ
    from epoch to epoch. The order depends on `(seed, epoch)` alone, so that a resumed run sees what
    an uninterrupted one would have seen.
    """
    order = grain.MapDataset.range(len(rows)).seed(seed + 100_003 * epoch).shuffle()
    batches = order.batch(min(batch_size, len(rows)), drop_remainder=True)

    def read(indices: np.ndarray) -> Batch:
        taken = rows[indices]
        return Batch(clips[taken[part]], taken)

    yield from batches[first:].map(read).to_iter_dataset(_READ_AHEAD)


def padded_batches(
    array: np.ndarray, rows: np.ndarray, batch_size: int, part: slice = ALL
) -> Iterator[tuple[Batch, int]]:
    """Some rows in batches of one size, the last filled up by repeating its last row; read ahead.

    Args:
      array: `[N, ...]`, perhaps on disk.
      rows: `[n]`.
      part: of each batch, what this process reads.

    Yields:
      A batch and how many of its rows are real.
    """

    def read(start: int) -> tuple[Batch, int]:
        taken = rows[start : start + batch_size]
        missing = batch_size - len(taken)
        filled = np.concatenate([taken, np.repeat(taken[-1:], missing)])
        return Batch(array[filled[part]], filled), len(taken)

    starts = grain.MapDataset.range(0, len(rows), batch_size)
    yield from starts.map(read).to_iter_dataset(_READ_AHEAD)
