"""Numbered Orbax checkpoints of one stage; the newest two are kept.

The SHA-256 hashes of a checkpoint's files are written after it (`stored.seal`), and verified when
it is opened. A checkpoint without them is incomplete. If the newest checkpoint is damaged, the one
before it is used; damaged files are moved aside, never overwritten.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from data_pipelines import stored
from data_pipelines.atomic import full_disk_named
from data_pipelines.locks import remove_leftovers
from data_pipelines.logs import log, without_library_errors
from dynapurls_jax.training.processes import is_first, wait_for_all
from dynapurls_jax.training.stages import CheckpointError, Stage

PyTree = Any
_ABOUT = "about.json"  # in the folder of a checkpoint


class Checkpoints:
    """Checkpoints of one stage in `folder`: complete or absent; the newest two are kept."""

    def __init__(self, folder: Path):
        """Opens the folder; finds the newest intact checkpoint."""
        self._folder = folder.resolve()
        self._sums = folder.with_name(f"{folder.name}.sha256")
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        self._newest: int | None = None
        self._damaged: dict[int, str] = {}
        for step in sorted(self._steps(), reverse=True):
            if not self._record(step).exists():
                continue  # incomplete
            fault = stored.fault(self._path(step), self._record(step))
            if fault is None:
                self._newest = step
                break
            self._damaged[step] = fault
            log.warning(f"  checkpoint {self._path(step)} is damaged: {fault}")

    def _steps(self) -> list[int]:
        names = (path.name for path in self._folder.glob("[0-9]*"))
        return [int(name) for name in names if name.isdecimal()]

    def _path(self, step: int) -> Path:
        return self._folder / str(step)

    def _record(self, step: int) -> Path:
        return self._sums / f"{step}.sha256"

    def latest(self) -> int | None:
        """Number of the newest intact checkpoint; None if no complete checkpoint exists.

        Raises:
          CheckpointError: all checkpoints are damaged; the message names the folder to delete.
        """
        if self._newest is None and self._damaged:
            faults = "; ".join(f"{step}: {fault}" for step, fault in self._damaged.items())
            raise CheckpointError(
                f"no checkpoint in {self._folder} is intact ({faults}); to begin that stage again, "
                f"delete {self._folder.parent}"
            )
        return self._newest

    def save(self, step: int, tree: PyTree, about: Any = None) -> None:
        """Writes `tree` as checkpoint number `step`; keeps one other, the newest intact one.

        Args:
          about: a JSON value beside the arrays.

        Raises:
          CheckpointError: the write fails; the message names the last intact checkpoint.
        """
        path, needed = self._path(step), sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        try:
            if is_first():
                self._make_room()
            wait_for_all(f"room for checkpoint {step}")
            with full_disk_named(path, needed), without_library_errors():
                self._orbax.save(path, args=ocp.args.StandardSave(tree), force=True)
            if is_first():
                if about is not None:
                    stored.write_json(path / _ABOUT, about)
                stored.seal(path, self._record(step))
            wait_for_all(f"checkpoint {step}")
        except Exception as error:  # Orbax raises what its storage layers raise
            reason = (str(error).splitlines() or [""])[0][:300]
            last = "no intact one is before it"
            if self._newest is not None:
                last = f"the last intact one is {self._newest}"
            raise CheckpointError(
                f"checkpoint {path} could not be written ({type(error).__name__}: {reason}); {last}"
            ) from error
        self._newest, self._damaged = step, {}

    def _make_room(self) -> None:
        """Moves damaged checkpoints aside; deletes all others but the newest intact one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._folder)
        for step in self._steps():
            path = self._path(step)
            if step in self._damaged:
                aside = self._folder.with_name(f"{self._folder.name}.damaged") / path.name
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                path.replace(aside)
                log.warning(f"  damaged checkpoint {step} is moved to {aside}")
            elif step != self._newest:
                shutil.rmtree(path)
        for record in self._sums.glob("*"):
            if record.stem != str(self._newest):
                record.unlink()

    def restore(self, like: PyTree, on_host: bool = False) -> PyTree:
        """The newest intact checkpoint, with the structure, shapes and types of `like`.

        Args:
          like: a pytree of arrays, or of the shapes that `jax.eval_shape` returns.
          on_host: return numpy arrays; otherwise arrays on the first device.

        Raises:
          FileNotFoundError: there is no checkpoint.
          CheckpointError: its shapes differ from `like`, or all checkpoints are damaged; the
            message names the folder to delete.
        """
        step = self.latest()
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self._folder}")
        if on_host:
            abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        else:
            place = SingleDeviceSharding(jax.devices()[0])
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), like
            )
        try:
            return self._orbax.restore(self._path(step), args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax raises what its storage layers raise
            raise CheckpointError(
                f"checkpoint {self._path(step)} cannot be read "
                f"({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}). It was "
                f"made by another version; to train that stage again, delete {self._folder.parent}"
            ) from error

    def about(self) -> Any:
        """The JSON value that was saved with the newest intact checkpoint."""
        return stored.read_json(self._folder / str(self._newest) / _ABOUT)

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._orbax.close()


class CheckpointGroup:
    """The checkpoints of runs that are trained together; each keeps its own.

    A run can be restored alone, and runs of different epochs can be continued together.
    """

    def __init__(self, runs: Sequence[Checkpoints]):
        self._runs = runs

    def save(self, step: int, tree: PyTree) -> None:
        """Writes each run's part of `tree`, whose leaves have a leading axis of the runs.

        Raises:
          CheckpointError: see `Checkpoints.save`.
        """
        for number, run in enumerate(self._runs):
            run.save(step, jax.tree.map(lambda leaf, n=number: leaf[n], tree))


def open_checkpoints(stage: Stage) -> Checkpoints:
    """The checkpoints of a stage.

    Raises:
      CheckpointError: the stage is finished but has no checkpoint; the message names the folder to
        delete.
    """
    checkpoints = Checkpoints(stage.folder / "checkpoints")
    if stage.results is not None and checkpoints.latest() is None:
        raise CheckpointError(
            f"{stage.folder} is finished but its checkpoint is missing; delete the folder to train "
            "it again"
        )
    return checkpoints


def tree_digest(tree: PyTree) -> str:
    """Hash of the paths and values of a pytree; identifies a set of weights."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(jax.device_get(leaf).tobytes())
    return sha.hexdigest()[:16]
