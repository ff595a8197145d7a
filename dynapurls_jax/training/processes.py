"""One training run in several processes: start-up, collective decisions and gathering.

All processes run the same program with the same workdir on a shared file system. With a single
process these functions do nothing.
"""

import os
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils


def join(where: str) -> None:
    """Joins the other processes and silences the standard output of all but the first.

    Args:
      where: "auto" on TPU pods, Slurm and Open MPI; otherwise `host:port,number,count`: address of
        the first process, number of this process, and number of all processes.

    Raises:
      ValueError: `where` has neither form.
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
    """Whether `flag` is true in at least one process; collective: all processes must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def from_first(number: int) -> int:
    """Broadcasts the value of the first process; collective: all processes must call it."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.array(number)))


def wait_for_all(what: str) -> None:
    """A barrier: waits until every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gathered(array: jax.Array) -> np.ndarray:
    """The whole array, on the host of every process; collective."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
