"""Everything that touches Orbax: numbered checkpoints of one stage, the last of them kept."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from dynapurls_jax.training.stages import CheckpointError

PyTree = Any


class Checkpoints:
    """Checkpoints of one stage in `folder`: written whole or not at all, the newest kept."""

    def __init__(self, folder: Path):
        self._folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest(self) -> int | None:
        """Number of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree) -> None:
        """Writes `tree` as checkpoint number `step` and drops older ones."""
        self._manager.save(step, args=ocp.args.StandardSave(tree), force=True)
        self._manager.wait_until_finished()

    def restore(self, like: PyTree) -> PyTree:
        """The newest checkpoint, with the structure, shapes and types of `like`.

        Args:
          like: arrays, or `jax.eval_shape` of what makes them.

        Raises:
          FileNotFoundError: there is none.
          CheckpointError: it is damaged or of another shape; says what to delete.
        """
        step = self.latest()
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self._folder}")
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), like
        )
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax raises what its storage layers raise
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} cannot be read "
                f"({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}). It is "
                "damaged or was made by another version; to train that stage again, delete "
                f"{self._folder.parent}"
            ) from error

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._manager.close()


def tree_digest(tree: PyTree) -> str:
    """Hash of all values of a pytree: the identity of a set of weights."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(jax.device_get(leaf).tobytes())
    return sha.hexdigest()[:16]
