"""The division of work among devices: batches are divided, all else is replicated.

Within one process or many (`training.processes`), a mesh is one row of devices. Programs are
compiled by `jax.jit` for arrays with the shardings `divided` and `everywhere`; the encoder alone
is in a `jax.shard_map`, since it packs persons and merges axes, which the compiler can divide
only by gathering every feature first.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = "batch"  # the name of the mesh's axis

WHOLE, DIVIDED = PartitionSpec(), PartitionSpec(BATCH)


def mesh_for(size: int, key: str) -> Mesh:
    """The most devices among which a batch can be divided evenly.

    Args:
      key: of the configuration that sets it, for the error.

    Raises:
      ValueError: several processes, whose devices must all take part, and they do not divide it.
    """
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    if count < len(devices) and jax.process_count() > 1:
        raise ValueError(f"{key}: expected a multiple of the {len(devices)} devices, got {size}")
    return Mesh(np.array(devices[:count]), (BATCH,))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Each device has all of an array."""
    return NamedSharding(mesh, WHOLE)


def divided(mesh: Mesh) -> NamedSharding:
    """Each device has its part of the leading axis."""
    return NamedSharding(mesh, DIVIDED)


def own_part(mesh: Mesh, size: int) -> slice:
    """The slice of a batch of `size` that the devices of this process have."""
    parts = divided(mesh).addressable_devices_indices_map((size,)).values()
    bounds = [part[0].indices(size) for part in parts if part is not None]
    return slice(min(b[0] for b in bounds), max(b[1] for b in bounds))


def divide(mesh: Mesh, local: Any) -> Any:
    """The parts of arrays that this process has, as arrays divided among all devices."""
    return jax.tree.map(
        lambda part: jax.make_array_from_process_local_data(divided(mesh), part), local
    )


def divide_rows(mesh: Mesh, rows: np.ndarray) -> jax.Array:
    """An array `[N, ...]`, perhaps on disk, divided among the devices; each reads its part.

    It is padded with zeros to a multiple of their number.
    """
    count = -(-len(rows) // mesh.size) * mesh.size

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        start, stop, _ = index[0].indices(count) if index else (0, count, 1)
        part = np.asarray(rows[start : min(stop, len(rows))])
        return np.pad(part, [(0, stop - start - len(part))] + [(0, 0)] * (part.ndim - 1))

    return jax.make_array_from_callback((count, *rows.shape[1:]), divided(mesh), read)
