"""Batches of clips with Grain and prefetching; training order is a function of seed and epoch."""

from collections.abc import Iterator
from typing import NamedTuple

import grain.python as grain
import numpy as np

# Two threads and two batches hide the time of reading memory-mapped clips.
_READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
ALL = slice(None)


class Batch(NamedTuple):
    """Some entries of an array `[N, ...]`.

    Attributes:
      local: `[b, ...]` entries that this process reads, a slice of the batch.
      indices: `[B]` positions in the array, of all entries of the batch.
    """

    local: np.ndarray
    indices: np.ndarray


def steps_in_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch over `count` clips; 1 if there are fewer clips than a batch."""
    return max(1, count // batch_size)


def epoch_batches(
    clips: np.ndarray,
    indices: np.ndarray,
    batch_size: int,
    seed: int,
    *,
    epoch: int,
    first: int = 0,
    local: slice = ALL,
) -> Iterator[Batch]:
    """One epoch in shuffled order, or its remaining batches after a resume.

    An incomplete last batch is dropped, so that one compiled step suffices; the dropped clips
    differ between epochs. The order depends on `(seed, epoch)` alone, so that a resumed run has the
    order of an uninterrupted one.

    Args:
      clips: all clips of the corpus `[N, ...]`, may be memory-mapped.
      indices: `[n]` indices of the training clips.
      first: number of batches of the epoch to skip.
      local: the slice of each batch that this process reads.
    """
    order = grain.MapDataset.range(len(indices)).seed(seed + 100_003 * epoch).shuffle()
    batches = order.batch(min(batch_size, len(indices)), drop_remainder=True)

    def read(positions: np.ndarray) -> Batch:
        chosen = indices[positions]
        return Batch(clips[chosen[local]], chosen)

    yield from batches[first:].map(read).to_iter_dataset(_READ_AHEAD)


def padded_batches(
    array: np.ndarray, indices: np.ndarray, batch_size: int, local: slice = ALL
) -> Iterator[tuple[Batch, int]]:
    """Batches of one size in order; the last one is padded with copies of its last entry.

    Args:
      array: `[N, ...]`, may be memory-mapped.
      indices: `[n]` indices of the entries to read.
      local: the slice of each batch that this process reads.

    Yields:
      A batch and its number of entries without the padding.
    """

    def read(start: int) -> tuple[Batch, int]:
        chosen = indices[start : start + batch_size]
        copies = np.repeat(chosen[-1:], batch_size - len(chosen))
        filled = np.concatenate([chosen, copies])
        return Batch(array[filled[local]], filled), len(chosen)

    starts = grain.MapDataset.range(0, len(indices), batch_size)
    yield from starts.map(read).to_iter_dataset(_READ_AHEAD)
