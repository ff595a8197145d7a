"""Numbered Orbax checkpoints of one stage; the newest two are kept.

The SHA-256 hashes of a checkpoint's files are written after it, in the format of
`sha256sum --check`. A checkpoint without hashes is incomplete. If the newest checkpoint is damaged,
the one before it is used; damaged files are moved aside, never overwritten.
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

from data_pipelines.atomic import write_text
from data_pipelines.logs import log
from dynapurls_jax.training.processes import is_first, wait_for_all
from dynapurls_jax.training.stages import CheckpointError, Stage

PyTree = Any
KEPT = 2


class Checkpoints:
    """Checkpoints of one stage in `folder`: complete or absent; the newest two are kept."""

    def __init__(self, folder: Path):
        """Opens the folder; creates it if needed."""
        self._folder = folder.resolve()
        self._sums = folder.with_name(f"{folder.name}.sha256")
        self._damaged: dict[int, str] = {}
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest(self) -> int | None:
        """Number of the newest intact checkpoint; None if no complete checkpoint exists.

        Raises:
          CheckpointError: all checkpoints are damaged; the message names the folder to delete.
        """
        written = self._written()
        for step in sorted(written, reverse=True):
            fault = self._fault(step)
            if fault is None:
                return step
            if step not in self._damaged:
                log.warning(f"  checkpoint {self._folder / str(step)} is damaged: {fault}")
            self._damaged[step] = fault
        if written:
            faults = "; ".join(f"{step}: {fault}" for step, fault in self._damaged.items())
            raise CheckpointError(
                f"no checkpoint in {self._folder} is intact ({faults}); to begin that stage again, "
                f"delete {self._folder.parent}"
            )
        return None

    def _written(self) -> list[int]:
        return [step for step in self._manager.all_steps() if self._record(step).exists()]

    def _record(self, step: int) -> Path:
        return self._sums / f"{step}.sha256"

    def _fault(self, step: int) -> str | None:
        """The first missing or changed file of a checkpoint, in words; None if all are intact."""
        for line in self._record(step).read_text("utf-8").splitlines():
            expected, _, name = line.partition("  ")
            file = self._folder / str(step) / name
            if not file.is_file():
                return f"no file {name}"
            if _sha256(file) != expected:
                return f"{name} is not what was written"
        return None

    def save(self, step: int, tree: PyTree) -> None:
        """Writes `tree` as checkpoint number `step`; deletes all but the newest two.

        Raises:
          CheckpointError: the write fails; the message names the last intact checkpoint.
        """
        try:
            self._make_room()
            self._manager.save(step, args=ocp.args.StandardSave(tree), force=True)
            self._manager.wait_until_finished()
            if is_first():
                self._write_sums(step)
            wait_for_all(f"checkpoint {step}")
        except Exception as error:  # Orbax raises what its storage layers raise
            reason = (str(error).splitlines() or [""])[0][:300]
            free = shutil.disk_usage(self._folder).free / 1e6
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / 1e6
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} could not be written "
                f"({type(error).__name__}: {reason}); it has {needed:.1f} MB, {free:.1f} MB are "
                f"free; {self._last_intact()}. When the folder can be written to and has room, the "
                "same command resumes"
            ) from error

    def _last_intact(self) -> str:
        intact = [step for step in self._written() if self._fault(step) is None]
        return f"the last intact one is {max(intact)}" if intact else "no intact one is before it"

    def _write_sums(self, step: int) -> None:
        checkpoint = self._folder / str(step)
        files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
        lines = [f"{_sha256(path)}  {path.relative_to(checkpoint)}\n" for path in files]
        self._sums.mkdir(exist_ok=True)
        write_text(self._record(step), "".join(lines))
        for old in self._sums.glob("*.sha256"):
            if not (self._folder / old.stem).exists():
                old.unlink()

    def _make_room(self) -> None:
        """Moves damaged checkpoints aside, since Orbax counts them, and deletes incomplete ones."""
        incomplete = [step for step in self._manager.all_steps() if not self._record(step).exists()]
        if not incomplete and not self._damaged:
            return
        wait_for_all("checkpoints are checked")
        for step in incomplete if is_first() else ():
            shutil.rmtree(self._folder / str(step))
        for step in self._damaged if is_first() else ():
            aside = self._folder.with_name(f"{self._folder.name}.damaged") / str(step)
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (self._folder / str(step)).replace(aside)
            self._record(step).unlink()
            log.warning(f"  damaged checkpoint {step} is moved to {aside}")
        wait_for_all("damaged checkpoints are moved")
        self._damaged.clear()
        self._manager.reload()

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
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax raises what its storage layers raise
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} cannot be read "
                f"({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}). It was "
                f"made by another version; to train that stage again, delete {self._folder.parent}"
            ) from error

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._manager.close()


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


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def tree_digest(tree: PyTree) -> str:
    """Hash of the paths and values of a pytree; identifies a set of weights."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(jax.device_get(leaf).tobytes())
    return sha.hexdigest()[:16]
