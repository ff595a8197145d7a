"""One training run in several processes: start-up, agreement and gathering.

Each process runs the same program over the same workdir, on a file system that all of them see.
With a single process everything here is free and changes nothing.
"""

import os
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils


def join(where: str) -> None:
    """Joins the other processes; all but the first then print nothing.

    Args:
      where: "auto" on TPU pods, Slurm and Open MPI; else `host:port,number,count`: where the first
        process listens, which one this is, and how many there are.

    Raises:
      ValueError: neither.
    """
    if where == "auto":
        jax.distributed.initialize()
    else:
        try:
            address, number, count = where.split(",")
            index, total = int(number), int(count)
        except ValueError:
            raise ValueError(
                f"--processes: expected auto or host:port,number,count, got {where!r}"
            ) from None
        jax.distributed.initialize(address, total, index)
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  until the process ends


def is_first() -> bool:
    """Whether this is the process that writes shared files."""
    return jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """Whether it is true in one of the processes; all must call this."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def from_first(number: int) -> int:
    """The number of the first process; all must call this."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.array(number)))


def wait_for_all(what: str) -> None:
    """Waits until every process has called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gathered(array: jax.Array) -> np.ndarray:
    """All of an array, on the host of every process."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
