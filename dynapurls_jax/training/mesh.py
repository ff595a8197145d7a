"""Sharding: batches are sharded over a one-dimensional mesh of devices, all else is replicated.

The mesh is the same for one process and for many (`training.processes`). `jax.jit` compiles
programs for arrays with the shardings `divided` and `everywhere`. The encoder alone uses
`jax.shard_map`: it packs persons and merges axes, which the compiler would shard only by gathering
all features first.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = "batch"  # the name of the mesh's axis

WHOLE, DIVIDED = PartitionSpec(), PartitionSpec(BATCH)


def mesh_for(size: int, key: str) -> Mesh:
    """A mesh of the largest number of devices that divides the batch size.

    Args:
      size: batch size.
      key: configuration key of the batch size, for the error message.

    Raises:
      ValueError: there are several processes, and the number of all devices does not divide `size`.
    """
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    if count < len(devices) and jax.process_count() > 1:
        raise ValueError(f"{key}: expected a multiple of the {len(devices)} devices, got {size}")
    return Mesh(np.array(devices[:count]), (BATCH,))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The replicated sharding: each device has the whole array."""
    return NamedSharding(mesh, WHOLE)


def divided(mesh: Mesh) -> NamedSharding:
    """The sharding of the leading axis: each device has one slice of it."""
    return NamedSharding(mesh, DIVIDED)


def own_part(mesh: Mesh, size: int) -> slice:
    """The slice of a batch of `size` on the devices of this process."""
    parts = divided(mesh).addressable_devices_indices_map((size,)).values()
    bounds = [part[0].indices(size) for part in parts if part is not None]
    return slice(min(b[0] for b in bounds), max(b[1] for b in bounds))


def divide(mesh: Mesh, local: Any) -> Any:
    """Global arrays, sharded over the mesh, from the slices that this process has on its host."""
    return jax.tree.map(
        lambda part: jax.make_array_from_process_local_data(divided(mesh), part), local
    )


def divide_rows(mesh: Mesh, rows: np.ndarray) -> jax.Array:
    """Shards an array `[N, ...]`, which may be on disk; each device reads only its slice.

    `N` is padded with zeros to a multiple of the number of devices.
    """
    count = -(-len(rows) // mesh.size) * mesh.size

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        start, stop, _ = index[0].indices(count) if index else (0, count, 1)
        part = np.asarray(rows[start : min(stop, len(rows))])
        return np.pad(part, [(0, stop - start - len(part))] + [(0, 0)] * (part.ndim - 1))

    return jax.make_array_from_callback((count, *rows.shape[1:]), divided(mesh), read)
